// Requests to the server, with its errors in words.

/** Seconds to wait if a busy server does not say. */
const PAUSE = 2;
/** Busy answers in a row before the page gives up. */
const TRIES = 60;

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An answer that is not the one wished for. `status` 0: the server cannot be reached. */
export class ApiError extends Error {
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Sends a request and answers with its JSON (or null); throws an ApiError. */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError(0, 'the server cannot be reached');
  }
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const error = new ApiError(response.status, body?.detail ?? `the server answered ${response.status}`, body ?? {});
  error.retryAfter = Number(response.headers.get('Retry-After')) || PAUSE;
  throw error;
}

/** As `call`, again for as long as the server is busy; `busy` hears why. */
export async function callUntilTaken(path, options, busy) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call(path, options);
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      busy(error.message);
      // Spread, so that those who were refused together do not come back together.
      await pause(error.retryAfter * (0.75 + Math.random() / 2));
    }
  }
}
