"use client"; // The build keeps it: frameworks with server components take the hooks for the browser's part.

export { MonitorProvider, type MonitorProviderProps } from "./provider.js";
export type { UseJobResult } from "./tracker.js";
export { type UseJobOptions, useJob } from "./use-job.js";
export { type UseJobsOptions, type UseJobsResult, useJobs } from "./use-jobs.js";
