/** The algorithms themselves: in a worker it answers messages, on a page it offers what looks like a worker. */
declare module "elkjs/lib/elk-worker.min.js" {
  const elk: { Worker: new (url?: string) => Worker };
  export default elk;
}
