/** Calls of the local server. The token comes with the address and leaves it at once. */
const KEY = "graftdet-token";
if (location.hash.length > 1) {
  sessionStorage.setItem(KEY, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem(KEY) ?? "";

export class CallError extends Error {
  constructor(message, conflict) {
    super(message);
    this.conflict = conflict;
  }
}

export async function call(name, values = {}, signal) {
  let response;
  try {
    response = await fetch(`/api/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-GraftDet-Token": token },
      body: JSON.stringify(values),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The program does not answer. Was it ended? Start `graftdet edit` again.");
  }
  const answer = await response.json();
  if (!response.ok) throw new CallError(answer.error, answer.conflict);
  return answer;
}
