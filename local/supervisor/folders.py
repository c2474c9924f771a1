"""Says where the local cloud keeps what it keeps."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "Folders", "default_state_dir"]

REPOSITORY = Path(__file__).resolve().parents[2]


def default_state_dir() -> Path:
    """Return the state folder of this clone, or the one that TIDEGATE_LOCAL_DIR names."""
    return Path(os.environ.get("TIDEGATE_LOCAL_DIR") or REPOSITORY / ".local").absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The files and folders of one local cloud, all inside its state folder."""

    state_dir: Path

    def make(self) -> None:
        """Create the folders, for this user only."""
        for folder in (self.state_dir, self.logs, self.run, self.config):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    @property
    def logs(self) -> Path:
        """One file a service; the last few starts are kept."""
        return self.state_dir / "logs"

    @property
    def run(self) -> Path:
        """Locks, pids and status: meaningful while the cloud runs."""
        return self.state_dir / "run"

    @property
    def config(self) -> Path:
        """The services' configuration files, written at each start."""
        return self.state_dir / "config"

    @property
    def supervisor_lock(self) -> Path:
        """Held exclusively, with the pid in it, while the supervisor lives."""
        return self.run / "supervisor.lock"

    @property
    def leash_lock(self) -> Path:
        """Held shared by every leash: nobody holds it when no service is left."""
        return self.run / "leash.lock"

    @property
    def status(self) -> Path:
        """What the supervisor last said about its services."""
        return self.run / "status.json"

    @property
    def settings(self) -> Path:
        """Ports and secrets; readable by this user only."""
        return self.state_dir / "cloud.json"

    def log(self, service: str) -> Path:
        """Return the log of a service's present start."""
        return self.logs / f"{service}.log"

    def of(self, service: str) -> Path:
        """Return the folder where a service keeps its state, made if need be."""
        folder = self.state_dir / service
        folder.mkdir(parents=True, exist_ok=True)
        return folder
