// Requests to the server. Errors carry the server's message.

/** Pause before a retry if the answer has no Retry-After, in seconds. */
const PAUSE = 2;
/** Attempts before the page gives up on a busy server. */
const MAX_TRIES = 60;

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An error answer. `status` is 0 if the server cannot be reached. */
export class ApiError extends Error {
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

const WARNINGS = {
  'small-face': 'the face is small',
  'turned-face': 'the face is turned away',
  'several-faces': 'there are several faces, of which the largest is used',
};

/** Returns in words why a photo that was added may not be a good one; '' if nothing is said against it. */
export const warningsOf = (photo) => (photo.warnings ?? []).map((warning) => WARNINGS[warning] ?? warning).join(', and ');

/** Sends a request and returns the JSON of the answer, or null. Throws an ApiError. */
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

/** As `call`, but retries while the server is busy. Calls `onBusy` with the server's message before each retry. */
export async function callUntilAccepted(path, options, onBusy) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call(path, options);
    } catch (error) {
      if (error.status !== 503 || tries === MAX_TRIES) throw error;
      onBusy(error.message);
      // Jitter, so that uploads that were rejected together do not retry together.
      await pause(error.retryAfter * (0.75 + Math.random() / 2));
    }
  }
}
