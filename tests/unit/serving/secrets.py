"""Secrets as the kubelet mounts them, and certificates to put into them."""

import itertools
import subprocess
from pathlib import Path

_numbers = itertools.count()


class Secret:
    """A mounted Secret: files are links through `..data`, which is swapped when the Secret changes."""

    def __init__(self, folder: Path, content: dict[str, bytes]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.change(content)

    def change(self, content: dict[str, bytes]) -> None:
        version = self.folder / f"..version_{next(_numbers)}"
        version.mkdir()
        for name, value in content.items():
            (version / name).write_bytes(value)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        for name in content:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for file in self.folder.iterdir():
            if not file.name.startswith("..") and file.name not in content:
                file.unlink()


def certificate(folder: Path, name: str = "localhost", *options: str) -> dict[str, bytes]:
    """The content of a kubernetes.io/tls Secret, signed by itself."""
    folder.mkdir(exist_ok=True)
    key, chain = folder / "key", folder / "chain"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(chain), "-days", "1", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1", *options]
    subprocess.run(command, check=True, capture_output=True)
    return {"tls.crt": chain.read_bytes(), "tls.key": key.read_bytes()}
