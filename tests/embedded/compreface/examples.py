"""Runs the examples in the documentation of CompreFace's Python client, and prints what the server responds.

    examples.py DOMAIN PORT API_KEY IMAGE OTHER_IMAGE
"""

import json
import sys

from compreface import CompreFace
from compreface.collections import FaceCollection
from compreface.collections.face_collections import Subjects
from compreface.service import DetectionService, RecognitionService, VerificationService

DOMAIN, PORT, API_KEY, image_path, other_image = sys.argv[1:]
subject: str = "Jonathan Petit"
OPTIONS = {
    "limit": 0,
    "det_prob_threshold": 0.8,
    "prediction_count": 1,
    "face_plugins": "calculator,age,gender,landmarks",
    "status": "true",
}
EXPANDED = {name: value for name, value in OPTIONS.items() if name != "prediction_count"}


def show(example: str, response: object) -> None:
    print(json.dumps([example, response]))


compre_face: CompreFace = CompreFace(DOMAIN, PORT)
recognition: RecognitionService = compre_face.init_face_recognition(API_KEY)
face_collection: FaceCollection = recognition.get_face_collection()
subjects: Subjects = recognition.get_subjects()

added = face_collection.add(image_path=image_path, subject=subject)
show("add", added)
show("recognize", recognition.recognize(image_path=image_path))
show("recognize with options", recognition.recognize(image_path=image_path, options=OPTIONS))
show("list", face_collection.list())
show("verify", face_collection.verify(image_path=image_path, image_id=added["image_id"], options=EXPANDED))
with open(other_image, "rb") as file:
    show("recognize bytes", recognition.recognize(file.read()))
show("delete", face_collection.delete(added["image_id"]))
face_collection.add(image_path=image_path, subject=subject)
show("delete all examples", face_collection.delete_all(subject))

show("add subject", subjects.add("Maria"))
show("add subject again", subjects.add("Maria"))
show("list subjects", subjects.list())
show("update subject", subjects.update("Maria", "Marta"))
show("list updated", subjects.list())
show("delete subject", subjects.delete("Marta"))
subjects.add("Jane")
subjects.add("John")
show("delete all subjects", subjects.delete_all())

detection: DetectionService = compre_face.init_face_detection(API_KEY)
show("detect", detection.detect(image_path=image_path, options=EXPANDED))

verification: VerificationService = compre_face.init_face_verification(API_KEY)
show(
    "verify two",
    verification.verify(source_image_path=image_path, target_image_path=other_image, options=EXPANDED),
)
defaults = CompreFace(domain=DOMAIN, port=PORT, options=OPTIONS)
show("recognize with defaults", defaults.init_face_recognition(API_KEY).recognize(image_path=image_path))
