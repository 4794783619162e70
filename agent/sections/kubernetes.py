"""[kubernetes]: where the kubelet is, and what in a pod says whose job it is."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.config import Reader, check_path

_SECTION = "kubernetes"

JOB_ID_KEYS = ("jobId", "volcano.sh/job-name", "FC_FRAMEWORK_NAME")
JOB_NAME_KEYS = ("jobName",)
USER_KEYS = ("userName",)
USER_ID_KEYS = ("userId",)
VC_KEYS = (
    "vcName",
    "virtualCluster",
    "volcano.sh/queue-name",
    "scheduling.volcano.sh/queue-name",
)
PROJECT_KEYS = ("project",)
GPU_RESOURCES = ("nvidia.com/gpu*", "nvidia.com/mig-*")
NPU_RESOURCES = ("huawei.com/Ascend*", "huawei.com/npu*", "npu.huawei.com/NPU")
CA_FILES = ("/etc/kubernetes/pki/ca.crt", "/var/lib/kubelet/pki/kubelet.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """See `ask_kubernetes`. The `*_keys` name labels or annotations, the first one first."""

    kubelet_dir: str
    kubelet_url: str
    kubelet_name: str  # "" = the host's
    token_file: str
    ca_files: tuple[str, ...]  # those that exist
    client_cert_file: str  # "" = none
    client_key_file: str  # "" = it is in the certificate's file
    refresh_seconds: int
    cgroup_roots: tuple[str, ...]
    job_id_keys: tuple[str, ...]
    job_name_keys: tuple[str, ...]
    user_keys: tuple[str, ...]
    user_id_keys: tuple[str, ...]
    vc_keys: tuple[str, ...]
    project_keys: tuple[str, ...]
    addon_namespaces: tuple[str, ...]
    gpu_resources: tuple[str, ...]  # * = any text
    npu_resources: tuple[str, ...]
    storage_quota: bool


def ask_kubernetes(reader: Reader) -> KubernetesSettings:
    """Take [kubernetes]; the defaults fit a kubeadm node and the known platforms' labels."""

    def keys(name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        return reader.texts(_SECTION, name, default, _name)

    return KubernetesSettings(
        kubelet_dir=reader.text(_SECTION, "kubelet_dir", "/var/lib/kubelet", check_path),
        kubelet_url=reader.text(_SECTION, "kubelet_url", "https://127.0.0.1:10250", _url),
        kubelet_name=reader.text(_SECTION, "kubelet_name", "", _name_or_none),
        token_file=reader.text(_SECTION, "token_file", "/etc/nodemeter/kubelet.token", check_path),
        ca_files=reader.texts(_SECTION, "ca_files", CA_FILES, check_path),
        client_cert_file=reader.text(_SECTION, "client_cert_file", "", _path_or_none),
        client_key_file=reader.text(_SECTION, "client_key_file", "", _path_or_none),
        refresh_seconds=reader.whole(_SECTION, "refresh_seconds", 30, least=5, most=600),
        cgroup_roots=reader.texts(_SECTION, "cgroup_roots", ("/",), check_path),
        job_id_keys=keys("job_id_keys", JOB_ID_KEYS),
        job_name_keys=keys("job_name_keys", JOB_NAME_KEYS),
        user_keys=keys("user_keys", USER_KEYS),
        user_id_keys=keys("user_id_keys", USER_ID_KEYS),
        vc_keys=keys("vc_keys", VC_KEYS),
        project_keys=keys("project_keys", PROJECT_KEYS),
        addon_namespaces=keys("addon_namespaces", ("kube-system",)),
        gpu_resources=keys("gpu_resources", GPU_RESOURCES),
        npu_resources=keys("npu_resources", NPU_RESOURCES),
        storage_quota=reader.flag(_SECTION, "storage_quota", default=False),
    )


def _url(value: str) -> str | None:
    """Only encrypted, since a token is sent there; the path is ours to say."""
    rule = "must be like https://127.0.0.1:10250"
    try:
        parts = urlsplit(value)
        is_right = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return rule
    return None if is_right and parts.netloc == value.removeprefix("https://") else rule


def _name(value: str) -> str | None:
    """What is written in a manifest."""
    fits = 1 <= len(value) <= 317 and value.isascii() and value.isprintable()
    return None if fits and " " not in value else "must be 1 to 317 characters without spaces"


def _name_or_none(value: str) -> str | None:
    return _name(value) if value else None


def _path_or_none(value: str) -> str | None:
    return check_path(value) if value else None
