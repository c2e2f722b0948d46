"""Collects the licences of the crates that are compiled into the program."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

# Names of files that crates give to licences, in capitals.
NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def of_crates(root: Path, features: str) -> str:
    """Returns one text: each crate with its version and licence, and each licence's text once, with its crates."""
    packages = crates(root, features)
    texts: dict[str, tuple[str, list[str]]] = {}
    lines = []
    for package in packages:
        title = f"{package['name']} {package['version']}"
        lines.append(f"{title}: {package['license'] or 'see its text'}")
        for file in license_files(Path(package["manifest_path"]).parent):
            text = file.read_text(errors="replace").strip()
            key = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            texts.setdefault(key, (text, []))[1].append(title)
    parts = ["These crates are compiled into the program.", "\n".join(lines)]
    for text, titles in texts.values():
        parts.append(f"{'-' * 100}\n{', '.join(dict.fromkeys(titles))}\n{'-' * 100}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def crates(root: Path, features: str) -> list[dict]:
    """Returns the packages from others that the program depends on, not those of its build or its tests alone."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", f"--features={features}"]
    tree = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    command = [cargo, "metadata", "--locked", "--format-version=1", "--all-features"]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout)
    packages = [package for package in metadata["packages"] if package["source"]]
    packages = [package for package in packages if (package["name"], f"v{package['version']}") in used]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def license_files(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if file.is_file() and file.name.upper().startswith(NAMES)]
    licenses = folder / "LICENSES"
    return sorted([*files, *(licenses.iterdir() if licenses.is_dir() else [])])
