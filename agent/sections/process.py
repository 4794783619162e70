"""[process]: by which variables of its environment a process says which job it is of."""

from dataclasses import dataclass

from agent.config import Reader

JOB_ID_FROM = (
    "DLWS_JOB_ID",
    "DLTS_JOB_ID",
    "JOB_ID",
    "PAI_JOB_NAME",
    "SLURM_JOB_ID",
    "MA_VJ_NAME",
)
JOB_NAME_FROM = ("SLURM_JOB_NAME", "PAI_JOB_NAME", "MA_VJ_NAME")
USER_FROM = ("DLWS_USER_NAME", "DLTS_USER_NAME", "PAI_USER_NAME", "SLURM_JOB_USER")
VC_FROM = ("DLWS_VC_NAME", "DLTS_VC_NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """See `ask_process`."""

    job_id_from: tuple[str, ...]
    job_name_from: tuple[str, ...]
    user_from: tuple[str, ...]
    vc_from: tuple[str, ...]
    project_from: tuple[str, ...]
    trust_user_variables: bool
    trust_device_variables: bool


def ask_process(reader: Reader) -> ProcessSettings:
    """Take [process].

    The `…_from` are variables, in the order in which they are looked up. A user may set
    them to anything: the username is that of the process's account, unless
    `trust_user_variables`, and devices are nobody's, unless `trust_device_variables` takes
    `NVIDIA_VISIBLE_DEVICES` and `ASCEND_VISIBLE_DEVICES` for what the job holds.
    """
    return ProcessSettings(
        job_id_from=reader.texts("process", "job_id_from", JOB_ID_FROM, _check_name),
        job_name_from=reader.texts("process", "job_name_from", JOB_NAME_FROM, _check_name),
        user_from=reader.texts("process", "user_from", USER_FROM, _check_name),
        vc_from=reader.texts("process", "vc_from", VC_FROM, _check_name),
        project_from=reader.texts("process", "project_from", (), _check_name),
        trust_user_variables=reader.flag("process", "trust_user_variables", default=False),
        trust_device_variables=reader.flag("process", "trust_device_variables", default=False),
    )


def _check_name(value: str) -> str | None:
    return None if value and "=" not in value else "must be the name of a variable"
