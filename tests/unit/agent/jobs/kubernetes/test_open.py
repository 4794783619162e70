"""The provider as the settings describe it, on a live node and on a saved tree."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import Reader
from agent.jobs.kubernetes import open_kubernetes_provider
from agent.sections.kubernetes import KubernetesSettings, ask_kubernetes
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.jobs.contexts import Machine
from tests.unit.agent.jobs.kubernetes.manifests import UID
from tests.unit.agent.jobs.kubernetes.nodes import pod_path

if TYPE_CHECKING:
    from agent.config import Toml


def ask(**keys: "Toml") -> tuple[KubernetesSettings, list[str]]:
    reader = Reader({"kubernetes": dict(keys)}, {})
    return ask_kubernetes(reader), [*reader.problems()]


def test_the_defaults_fit_a_stock_node() -> None:
    """Nothing needs to be set but a token, where labels and requests are wanted."""
    settings, problems = ask()
    assert not problems
    assert settings.kubelet_url == "https://127.0.0.1:10250"
    assert settings.kubelet_dir == "/var/lib/kubelet"
    assert settings.token_file == "/etc/nodemeter/kubelet.token"
    assert settings.refresh_seconds == 30
    assert settings.job_id_keys[:2] == ("jobId", "volcano.sh/job-name")
    assert settings.vc_keys[0] == "vcName"
    assert not settings.storage_quota


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kubelet_url", "http://127.0.0.1:10255"),
        ("kubelet_url", "https://"),
        ("kubelet_url", "https://n1:99999"),
        ("kubelet_url", "https://n1:10250/pods"),
        ("kubelet_url", "https://[::1"),
        ("kubelet_dir", "var/lib"),
        ("token_file", ""),
        ("client_key_file", "key.pem"),
        ("refresh_seconds", 1),
        ("user_keys", ["user name"]),
        ("user_keys", [""]),
        ("ca_files", ["ca.crt"]),
        ("cgroup_roots", ["kubelet"]),
        ("storage_quota", "often"),
    ],
)
def test_what_cannot_be_right_is_an_error(key: str, value: "Toml") -> None:
    """A token is never sent without encryption; a path is absolute; a key has no spaces."""
    problem = ask(**{key: value})[1][0]
    assert problem.startswith(f"[kubernetes] {key}: must be")


@pytest.mark.parametrize("url", ["https://127.0.0.1:10250", "https://[::1]:10250", "https://n1"])
def test_where_the_kubelet_is_can_be_said(url: str) -> None:
    """By name or address."""
    settings, problems = ask(kubelet_url=url, client_cert_file="/c.pem", kubelet_name="n1")
    assert (settings.kubelet_url, settings.client_cert_file, settings.kubelet_name) == (
        url,
        "/c.pem",
        "n1",
    )
    assert not problems


def test_a_node_without_kubernetes_starts_nothing(tmp_path: Path) -> None:
    """No thread, no file, no library."""
    machine = Machine(CgroupTree(tmp_path, "v2"), "")
    before = threading.active_count()
    provider = open_kubernetes_provider(machine.context())
    assert provider.runs() == ()
    assert provider.problems() == ()
    assert threading.active_count() == before


def test_a_saved_tree_tells_pods_by_their_cgroups_and_log_folders(tmp_path: Path) -> None:
    """There is no kubelet to ask; that is said."""
    tree = CgroupTree(tmp_path / "sys" / "fs" / "cgroup", "v2")
    folders = [f"team_web-1_{UID}", "nonsense", f"x_y_z_{UID}", "Team_UPPER_case"]
    for folder in folders:
        (tmp_path / "var" / "log" / "pods" / folder).mkdir(parents=True)
    tree.make(pod_path(), pids=(os.getpid(),))
    machine = Machine(tree, "")
    provider = open_kubernetes_provider(machine.context(is_live=False, root=str(tmp_path)))
    (run,) = provider.runs()
    assert (run.job_id, run.namespace, run.username) == ("web-1", "team", None)
    (problem,) = provider.problems()
    assert "saved tree" in problem.message
