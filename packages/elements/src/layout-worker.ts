// The layout library answers messages when it is loaded in a worker: there is nothing to add.
import "elkjs/lib/elk-worker.min.js";
