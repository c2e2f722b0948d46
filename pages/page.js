// The page: photos, the fleet, dead letters, and the people.

import { followDeadLetters } from './dead-letters.js';
import { allowNames } from './faces.js';
import { followFleet } from './fleet.js';
import { startPeople } from './people.js';
import { addPhotos } from './photos.js';
import { startSession } from './session.js';

const input = document.getElementById('file');
const drop = document.getElementById('drop');

input.addEventListener('change', () => {
  addPhotos([...input.files]);
  input.value = ''; // so that the same photo can be chosen again
});

// The whole page is a drop zone, because the browser would open a photo that is dropped elsewhere.
for (const name of ['dragenter', 'dragover']) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) drop.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  addPhotos([...event.dataTransfer.files]);
});
document.addEventListener('paste', (event) => {
  const files = [...event.clipboardData.files];
  if (files.length > 0) {
    event.preventDefault();
    addPhotos(files);
  }
});

const role = await startSession();
document.getElementById('photos').hidden = role === null;
document.getElementById('drop').hidden = role === 'read';
document.querySelector('aside').hidden = role !== 'read' && role !== 'admin';
document.getElementById('add-person').hidden = role !== 'admin';
if (role === 'admin') {
  allowNames();
  followDeadLetters();
}
if (role === 'read' || role === 'admin') {
  followFleet();
  startPeople();
}
