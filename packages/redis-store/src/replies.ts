/** What an error of Redis, or of the connection to it, says in one line. Never names arguments of a command. */
export function wordsOf(thrown: unknown): string {
  // Several addresses were tried: each has its own error, the whole has no message.
  if (thrown instanceof AggregateError && thrown.message === "")
    return [...new Set(thrown.errors.map(wordsOf))].join("; ");
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text
    .replace(/ script: \w+, on @user_script:\d+\.?$|, with args beginning .*/s, "")
    .replace(/\.$/, "");
}

/** Error replies of a script that are no fault of the data that it met. */
const NOT_THE_DATA = /executing the script can't|ACL failure|[Uu]nknown .*command|killed/;

/**
 * Whether an error reply says that stored data is not what a script wrote: a key of another type, a text that is
 * no JSON or no number, an entry that does not follow.
 */
export const isDamage = (reply: string): boolean =>
  /^(WRONGTYPE|ERR) .*@user_script/s.test(reply) && !NOT_THE_DATA.test(reply);

/** The beginning of what Redis says, and what an operator can do. */
const REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/^OOM/, "raise maxmemory or free memory"],
  [/^MISCONF/, "make its dir writable, free disk space, or set stop-writes-on-bgsave-error to no"],
  [/^NOREPLICAS/, "bring its replicas back or lower min-replicas-to-write"],
  [/^READONLY/, "connect to the master, not to a replica"],
  [
    /^NOPERM|executing the script can't|ACL failure/,
    "give its user the rights that the README of the store lists",
  ],
  [/^(NOAUTH|WRONGPASS)/, "set the right user and password in url or redis"],
  [/^LOADING/, "wait until it has loaded its data"],
  [/^BUSY/, "end the script that blocks it (SCRIPT KILL)"],
  [/[Uu]nknown .*command/, "do not rename the commands that the README of the store lists"],
  [
    /certificate|SSL|TLS|wrong version number/,
    "check url (rediss:// is TLS, redis:// is not) and redis.tls",
  ],
  [
    /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ETIMEDOUT/,
    "check that Redis runs, and its host and port in url or redis",
  ],
];

export const remedyFor = (words: string): string =>
  REMEDIES.find(([pattern]) => pattern.test(words))?.[1] ?? "try again";
