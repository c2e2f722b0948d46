"""Recognises faces with the same models as Rollcall, served by Mosec: nothing is queued on disk or stored.

    mosec_server.py --address HOST --port PORT

takes photos as forms, like Rollcall, at /inference, and answers with a name. $PEER_ASSETS is the folder of the models and
photos, $PEER_EMBEDDER the file of the embedder, $PEER_WORKERS the number of processes.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from golden import detect, embed, load
from mosec import Server, Worker

ASSETS = Path(os.environ["PEER_ASSETS"])
THRESHOLD = 0.45  # cosine similarity; the default of recognition.threshold


class Recogniser(Worker):
    def __init__(self):
        cv2.setNumThreads(1)  # as many processes as cores
        self.detector = load(ASSETS / "models" / "face_detection_yunet_2023mar.onnx")
        self.embedder = load(os.environ["PEER_EMBEDDER"])
        known = sorted((ASSETS / "photos" / "known").rglob("*.jpg"))
        self.names = [photo.parent.name for photo in known]
        self.gallery = np.array([self.embeddings(photo.read_bytes())[0] for photo in known])

    def embeddings(self, image: bytes) -> list[np.ndarray]:
        """The embeddings of all faces, of the largest first."""
        photo = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        rows = detect(self.detector, photo)
        rows = rows[np.argsort(-rows[:, 2] * rows[:, 3])]
        return [embed(self.embedder, photo, row[4:14].reshape(5, 2)) for row in rows]

    def deserialize(self, data: bytes) -> bytes:
        boundary = data[: data.index(b"\r\n")]
        start = data.index(b"\r\n\r\n") + 4
        return data[start : data.index(b"\r\n" + boundary, start)]

    def forward(self, data: bytes) -> str:
        names = []
        for embedding in self.embeddings(data):
            similarities = self.gallery @ embedding
            nearest = int(np.argmax(similarities))
            names.append(self.names[nearest] if similarities[nearest] >= THRESHOLD else "Unknown")
        return names[0] if names else "NoFace"

    def serialize(self, data: str) -> bytes:
        return data.encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Recogniser, num=int(os.environ["PEER_WORKERS"]))
    server.run()
