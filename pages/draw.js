// Draws photos on a canvas, upright, with boxes around their faces.

/** Longest side of a canvas, in pixels: sharp on a card, small in memory. */
const MAX_SIDE = 720;

/** Draws a photo upright by its EXIF orientation. Rejects if the browser cannot decode it. */
export async function drawPhoto(canvas, file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: 'from-image' });
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return true;
}

/** Draws the boxes and names of faces. Boxes are in pixels of the upright photo, which is `result.width` wide. */
export function drawFaces(canvas, result) {
  const context = canvas.getContext('2d');
  const scale = canvas.width / result.width;
  const stroke = Math.max(2, canvas.width / 180);
  const size = Math.max(12, canvas.width / 22);
  context.lineWidth = stroke;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = 'top';
  // Smallest first, so that the largest face's name is on top.
  for (const face of [...(result.faces ?? [])].reverse()) {
    const [x, y, width, height] = face.bbox.map((v) => v * scale);
    const colour = face.name === 'unknown' ? '#f59e0b' : '#22c55e';
    context.strokeStyle = colour;
    context.strokeRect(x, y, width, height);
    const text = face.similarity === null ? face.name : `${face.name} ${face.similarity.toFixed(2)}`;
    const tag = { width: context.measureText(text).width + size * 0.6, height: size * 1.35 };
    const left = Math.max(0, Math.min(x - stroke / 2, canvas.width - tag.width));
    const above = y - tag.height >= 0 ? y - tag.height : Math.min(y + height, canvas.height - tag.height);
    context.fillStyle = colour;
    context.fillRect(left, above, tag.width, tag.height);
    context.fillStyle = '#0b0f14';
    context.fillText(text, left + size * 0.3, above + size * 0.2);
  }
}
