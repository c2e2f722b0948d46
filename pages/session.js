// Signs in with a token where the server needs one.

import { call } from './api.js';

const form = document.getElementById('sign-in');
const input = document.getElementById('token');
const status = document.getElementById('sign-in-status');

/** Shows the form or the role. Returns the role by which the page may be used, or null. */
export async function startSession() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    signIn(input.value.trim());
  });
  document.getElementById('sign-out').addEventListener('click', async () => {
    await call('/v1/session', { method: 'DELETE' }).catch(() => null);
    window.location.reload();
  });
  const session = await call('/v1/session').catch(() => ({ access_control: false }));
  if (!session.access_control) return 'admin';
  form.hidden = session.role !== null;
  document.getElementById('signed-in').hidden = session.role === null;
  document.getElementById('role').textContent = session.role ?? '';
  return session.role ?? session.anonymous;
}

async function signIn(token) {
  try {
    await call('/v1/session', { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
    window.location.reload();
  } catch (error) {
    status.textContent = error.message;
    status.classList.add('error');
  }
}
