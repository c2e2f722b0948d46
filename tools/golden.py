"""Writes the golden values: the results of an independent face pipeline, with which Rollcall's results must agree.

    golden.py ASSETS OUT_FOLDER SELF_TEST

writes into OUT_FOLDER faces.jsonl, one line per photo, with paths relative to ASSETS and the largest face first:
    {"photo", "faces": [{"box": [x, y, width, height], "landmarks": [[x, y] × 5], "score", "embedding": [128]}]}
and similarity.jsonl, one line per set of landmarks:
    {"landmarks": [[x, y] × 5], "matrix": [[a, b, x], [c, d, y]]}
Coordinates are pixels of the original photo; embeddings have length 1; "matrix" maps landmarks into the 112×112 crop.
SELF_TEST becomes the embedding of drawn_face(), which a worker expects of SFace before it uses it.

Photos with a side over 640 pixels are shrunk for detection only, with Pillow's bilinear filter (a triangle as wide as
two pixels of the output). Faces are cut from the original pixels.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

DETECTION_SIDE = 640
MIN_SCORE = 0.6
MAX_OVERLAP = 0.3  # IoU
STRIDES = (8, 16, 32)

# Where SFace expects the landmarks in its 112×112 input (OpenCV, FaceRecognizerSF): right eye, left eye, nose, right
# and left corner of the mouth, as the person has them.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the sums of several threads may differ in the last digits
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def planar(image):
    """Converts [H, W, 3] to [1, 3, H, W]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis].astype(np.float32))


def detect(detector, photo):
    """Runs YuNet. Returns rows of box (x, y, width, height), 5 landmarks (x, y) and score, in pixels of the photo."""
    height, width = photo.shape[:2]
    shrink = min(1.0, DETECTION_SIDE / max(height, width))
    if shrink < 1:
        size = (round(width * shrink), round(height * shrink))
        # Rows first: the levels are rounded between the passes, so the order matters.
        rows_first = Image.fromarray(photo).resize((width, size[1]), Image.Resampling.BILINEAR)
        photo = np.asarray(rows_first.resize(size, Image.Resampling.BILINEAR))
    rows = detect_at_size(detector, photo)
    back = np.array([width / photo.shape[1], height / photo.shape[0]])
    rows[:, :14] *= np.tile(back, 7)
    return rows


def detect_at_size(detector, photo):
    height, width = photo.shape[:2]
    padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
    padded[:height, :width] = photo
    names = [f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox", "kps")]
    outputs = dict(zip(names, detector.run(names, {"input": planar(padded)})))

    found = [np.zeros((0, 15))]
    for stride in STRIDES:
        cls, obj, box, points = (outputs[f"{kind}_{stride}"][0] for kind in ("cls", "obj", "bbox", "kps"))
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        cells = np.flatnonzero(score > MIN_SCORE)
        column_row = np.stack([cells % (padded.shape[1] // stride), cells // (padded.shape[1] // stride)], axis=1)
        centre = (column_row + box[cells, :2]) * stride
        size = np.exp(box[cells, 2:]) * stride
        landmarks = (column_row[:, np.newaxis] + points[cells].reshape(-1, 5, 2)) * stride
        found.append(
            np.concatenate([centre - size / 2, size, landmarks.reshape(-1, 10), score[cells, np.newaxis]], axis=1)
        )
    rows = np.concatenate(found)
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), MIN_SCORE, MAX_OVERLAP)
    return rows[np.array(kept, int).reshape(-1)]


def similarity(landmarks):
    """Returns the rotation, scale and translation that bring landmarks nearest to TEMPLATE, as a 2×3 matrix.

    Linear least squares in (a, b, x, y) of [[a, -b, x], [b, a, y]]: another way to the same minimum as Umeyama's closed
    form (1991).
    """
    equations, wanted = [], []
    for (x, y), (u, v) in zip(landmarks, TEMPLATE):
        equations += [[x, -y, 1, 0], [y, x, 0, 1]]
        wanted += [u, v]
    a, b, x, y = np.linalg.lstsq(np.array(equations), np.array(wanted), rcond=None)[0]
    return np.array([[a, -b, x], [b, a, y]])


def embed(embedder, photo, landmarks):
    """Runs SFace. Returns an embedding of length 1."""
    crop = cv2.warpAffine(photo, similarity(landmarks), (112, 112), flags=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
    (vector,) = embedder.run(["fc1"], {"data": planar(rgb)})[0]
    return vector / np.linalg.norm(vector)


def drawn_face():
    """Draws a blurred face of 112×112 RGB pixels in integers, as src/inference/vision/self_test.rs does."""
    y, x = np.mgrid[:112, :112]
    side = np.abs(x - 56)  # both halves are the same
    head = 169 * side**2 + 100 * (y - 62) ** 2 < 270400
    skin = 205 - (side**2 + (y - 62) ** 2) // 40
    background = 40 + (x + y) // 4
    face = np.stack([background] * 3, axis=-1)
    for shape, colour in [
        (head, [skin, skin * 3 // 4, skin * 5 // 8]),
        (head & (y < 30), [60, 45, 35]),  # hair
        ((side - 18) ** 2 + 9 * (y - 43) ** 2 < 100, [80, 55, 45]),  # brows
        ((side - 18) ** 2 + 3 * (y - 52) ** 2 < 60, [235, 230, 225]),  # eyes
        ((side - 18) ** 2 + (y - 52) ** 2 < 14, [40, 30, 30]),  # pupils
        ((y >= 50) & (y < 74) & (side < 3 + (y - 50) // 5), [170, 125, 105]),  # nose
        (side**2 + 9 * (y - 92) ** 2 < 250, [165, 75, 75]),  # mouth
    ]:
        for channel, level in enumerate(colour):
            face[..., channel] = np.where(shape, level, face[..., channel])
    # Each level is the mean of 5×5: photos have no sharp edges. Pixels at the border are continued outwards.
    padded = np.pad(face, ((2, 2), (2, 2), (0, 0)), "edge")
    return (sum(padded[i : i + 112, j : j + 112] for i in range(5) for j in range(5)) // 25).astype(np.uint8)


def self_test(embedder):
    """Returns the embedding of drawn_face(), of length 1."""
    (vector,) = embedder.run(["fc1"], {"data": planar(drawn_face())})[0]
    return (vector / np.linalg.norm(vector)).astype(float).round(5).tolist()


def faces(detector, embedder, path):
    photo = cv2.imread(str(path))
    rows = detect(detector, photo)
    for row in rows[np.argsort(-rows[:, 2] * rows[:, 3])]:
        landmarks = row[4:14].reshape(5, 2)
        yield {
            "box": row[:4].round(2).tolist(),
            "landmarks": landmarks.round(2).tolist(),
            "score": round(float(row[14]), 4),
            "embedding": embed(embedder, photo, landmarks).astype(float).round(5).tolist(),
        }


def some_landmarks(count):
    """Yields faces that are rotated, scaled, shifted and slightly distorted, always the same ones."""
    random = np.random.default_rng(seed=1991)
    for _ in range(count):
        turn, scale = random.uniform(-np.pi, np.pi), random.uniform(0.2, 12)
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        face = TEMPLATE + random.normal(0, 3, TEMPLATE.shape)
        yield (face @ matrix.T + random.uniform(-200, 2000, 2)).round(3)


def write_lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def main(assets, out, self_test_file):
    detector = load(assets / "models/face_detection_yunet_2023mar.onnx")
    embedder = load(assets / "models/face_recognition_sface_2021dec.onnx")
    photos = sorted((assets / "photos").rglob("*.jpg"))
    write_lines(
        out / "faces.jsonl",
        ({"photo": str(p.relative_to(assets)), "faces": list(faces(detector, embedder, p))} for p in photos),
    )
    write_lines(
        out / "similarity.jsonl",
        ({"landmarks": l.tolist(), "matrix": similarity(l).round(9).tolist()} for l in some_landmarks(20)),
    )
    rows = np.array(self_test(embedder)).reshape(16, 8).tolist()
    self_test_file.write_text("[\n" + ",\n".join(json.dumps(row)[1:-1] for row in rows) + "\n]\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
