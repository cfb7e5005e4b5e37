import { execFileSync } from "node:child_process";

/** A certificate for localhost that nobody trusts, and its key: needs `openssl` on the PATH. */
export function certificate(): { key: string; cert: string } {
  const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
  const files = "-subj /CN=localhost -keyout - -out -";
  const pem = execFileSync("openssl", `${options} ${files}`.split(" "), {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const at = pem.indexOf("-----BEGIN CERTIFICATE");
  return { key: pem.slice(0, at), cert: pem.slice(at) };
}
