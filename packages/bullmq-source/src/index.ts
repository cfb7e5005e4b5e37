// In the order in which data flows, the files that are inside: ./options.js ./keys.js ./queue-watch.js
// ./queues.js (events come in), ./damage.js ./facts.js ./stream.js ./reader.js ./looks.js (jobs are
// looked at, together with their events), ./tracked.js ./registry.js (whose they are), ./progress.js
// ./digest.js ./intake.js (what look and events tell), ./backlog.js ./questions.js ./recall.js (what
// ended before), ./steps.js ./job-mode.js ./flow-mode.js ./say.js (what is said of it), ./rounds.js ./sweep.js (when).
export type { BullmqSourceOptions, SourceJob } from "./options.js";
export type { Report } from "./progress.js";
export type { BullmqSource } from "./source.js";
export { bullmqSource } from "./source.js";
