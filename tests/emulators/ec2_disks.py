"""The key with which the emulated EC2 encrypts disks by default, and so the snapshots of images. moto has no call that tells it."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

KEY = {"id": "alias/aws/ebs"}


def get_ebs_default_kms_key_id(self) -> ActionResult:
    return ActionResult({"KmsKeyId": KEY["id"]})


def modify_ebs_default_kms_key_id(self) -> ActionResult:
    """Sets the key, without asking KMS whether there is one."""
    KEY["id"] = self._get_param("KmsKeyId")
    return ActionResult({"KmsKeyId": KEY["id"]})


def encrypt(snapshot, backend) -> None:
    """Encrypts a new snapshot as its disk is."""
    if backend.get_ebs_encryption_by_default():
        snapshot.encrypted, snapshot.kms_key_id = True, KEY["id"]


EC2Response.get_ebs_default_kms_key_id = get_ebs_default_kms_key_id
EC2Response.modify_ebs_default_kms_key_id = modify_ebs_default_kms_key_id
