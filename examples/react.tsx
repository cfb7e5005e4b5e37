import { createMonitorClient } from "@org/workflow-monitor-client";
import { MonitorProvider, useJob, useJobs } from "@org/workflow-monitor-client/react";

const client = createMonitorClient({ url: "https://app.example" });

export const App = () => (
  <MonitorProvider client={client}>
    <Jobs />
  </MonitorProvider>
);

function Jobs() {
  const { jobs, error, isLoading } = useJobs({ limit: 20 });
  if (isLoading) return <p>…</p>;
  return error ? <p>{error.message}</p> : jobs.map(({ jobId }) => <Job key={jobId} id={jobId} />);
}

function Job({ id }: { id: string }) {
  const { status, progress, currentStage, error, refetch } = useJob(id, {
    onDone: (job) => console.log(`${job.jobId} is ${job.status}`),
  });
  if (error) {
    return (
      <button type="button" onClick={refetch}>
        {error.message} Try again
      </button>
    );
  }
  return (
    <p>
      {id}: {status ?? "…"} {currentStage} <progress max={100} value={progress} />
    </p>
  );
}
