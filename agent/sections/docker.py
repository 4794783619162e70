"""[docker]: where the engines are, and which labels say whose a container is."""

from dataclasses import dataclass

from agent.config import Reader, check_path

SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
JOB_ID_FROM = ("nodemeter.job_id", "jobId", "DLWS_JOB_ID", "DLTS_JOB_ID", "PAI_JOB_NAME")
JOB_NAME_FROM = ("nodemeter.job_name", "jobName", "podName")
USER_FROM = (
    "nodemeter.user",
    "userName",
    "DLWS_USER_NAME",
    "DLTS_USER_NAME",
    "PAI_USER_NAME",
)
VC_FROM = ("nodemeter.vc", "vcName", "DLWS_VC_NAME", "DLTS_VC_NAME")
PROJECT_FROM = ("nodemeter.project", "com.docker.compose.project")
GPU_RUNTIMES = ("nvidia*", "ascend*")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """See `ask_docker`."""

    sockets: tuple[str, ...]
    parents: tuple[str, ...]
    gpu_runtimes: tuple[str, ...]
    job_id_from: tuple[str, ...]
    job_name_from: tuple[str, ...]
    user_from: tuple[str, ...]
    vc_from: tuple[str, ...]
    project_from: tuple[str, ...]


def ask_docker(reader: Reader) -> DockerSettings:
    """Take [docker].

    `sockets`: where Docker and Podman listen; `*` stands for any text, as in
    `/run/user/*/podman/podman.sock`. `parents`: cgroups of one's own in which containers
    are, as in `docker run --cgroup-parent`. The `…_from` are labels, or variables of the
    container, in the order in which they are looked up. `gpu_runtimes`: the runtimes that
    take `NVIDIA_VISIBLE_DEVICES=all` at its word; images set that, so with any other
    runtime it means nothing.
    """
    return DockerSettings(
        sockets=reader.texts("docker", "sockets", SOCKETS, check_path),
        parents=reader.texts("docker", "parents", (), _check_parent),
        gpu_runtimes=reader.texts("docker", "gpu_runtimes", GPU_RUNTIMES, _check_name),
        job_id_from=reader.texts("docker", "job_id_from", JOB_ID_FROM, _check_name),
        job_name_from=reader.texts("docker", "job_name_from", JOB_NAME_FROM, _check_name),
        user_from=reader.texts("docker", "user_from", USER_FROM, _check_name),
        vc_from=reader.texts("docker", "vc_from", VC_FROM, _check_name),
        project_from=reader.texts("docker", "project_from", PROJECT_FROM, _check_name),
    )


def _check_name(value: str) -> str | None:
    return None if value.strip() else "must not be empty"


def _check_parent(value: str) -> str | None:
    """A path below the root of a cgroup hierarchy."""
    parts = value.split("/")
    if parts[0] == "" and len(parts) > 1 and {"", ".", ".."}.isdisjoint(parts[1:]):
        return None
    return "must be a cgroup such as /jobs/gpu, without a slash at its end"
