"""The aggregator's one error tree; the docstrings are the messages.

    NodemeterError
    ├── SettingsError             what the operator configured cannot be used
    ├── PortTakenError            somebody else listens there
    └── DatabaseError             the database cannot serve us
        ├── DatabaseUrlError
        ├── DatabaseUnreachableError
        ├── DatabaseAuthError
        ├── DatabaseMissingError
        ├── DatabaseTooOldError
        ├── DatabaseEncodingError
        ├── TimescaleMissingError
        ├── TimescaleNotPreloadedError
        ├── TimescalePrivilegeError
        ├── TimescaleVersionError
        ├── SchemaMissingError
        ├── SchemaIncompleteError
        ├── QueryTooLongError
        ├── SchemaNewerError
        ├── SchemaOlderError
        ├── SchemaChangedError
        ├── SchemaPrivilegeError
        ├── RoleRefusedError
        ├── RolesMissingError
        ├── GrantsMissingError
        └── MigrationFailedError

Foreign errors (psycopg, OSError) are translated once, where they arise, by
`raise … from`. A message never holds a password: URLs pass through `redact`.
"""

from collections.abc import Sequence

from aggregator.redact import redact


class NodemeterError(Exception):
    """Base of what the commands show as a message, without a traceback."""


class SettingsError(NodemeterError):
    """Holds every fault of the configuration at once."""

    def __init__(self, problems: Sequence[str], source: str) -> None:
        """Join `problems` under the name of the file they were found in."""
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"the configuration ({source}) cannot be used:\n{lines}")


class PortTakenError(NodemeterError):
    """Another process listens on the address."""

    def __init__(self, *, host: str, port: int, section: str) -> None:
        """Name the port and the two ways to choose another."""
        super().__init__(
            f"port {port} on {host} is taken ({section.upper()}); choose another with "
            f"NODEMETER_{section.upper()}_PORT or `port` under [{section}]"
        )


class DatabaseError(NodemeterError):
    """The database cannot serve us."""


class DatabaseUrlError(DatabaseError):
    """The URL is not one that PostgreSQL's client library understands."""

    def __init__(self, url: str) -> None:
        """Show the form that is expected; not libpq's words, which quote the password."""
        super().__init__(f"[database] url: {expected_url(url)}")


class DatabaseUnreachableError(DatabaseError):
    """Nobody answers at the URL, or not in time."""

    def __init__(self, url: str, detail: str) -> None:
        """Say where we tried and what the network said."""
        super().__init__(f"no database answers at {redact(url)}: {detail}")


class DatabaseAuthError(DatabaseError):
    """The server refused who we are."""

    def __init__(self, url: str, detail: str) -> None:
        """Say as whom we tried, never with which password."""
        super().__init__(f"the database at {redact(url)} refused the login: {detail}")


class DatabaseMissingError(DatabaseError):
    """The server answers but has no database of that name."""

    def __init__(self, url: str, detail: str) -> None:
        """Name the way to make it."""
        super().__init__(
            f"the server at {redact(url)} has no such database: {detail}; "
            "create it with `createdb`, in UTF8"
        )


class DatabaseTooOldError(DatabaseError):
    """The server is older than the schema needs."""

    def __init__(self, version: int) -> None:
        """Name the version found and the one needed."""
        super().__init__(
            f"PostgreSQL {version // 10000} is too old: 15 or newer is needed, with TimescaleDB"
        )


class DatabaseEncodingError(DatabaseError):
    """Names of jobs and users can hold any character; the database must, too."""

    def __init__(self, encoding: str) -> None:
        """Name the encoding found and the way to one that works."""
        super().__init__(
            f"the database is encoded in {encoding}, not in UTF8; "
            "create one with `createdb --encoding=UTF8 --template=template0`"
        )


class TimescaleMissingError(DatabaseError):
    """The server has no TimescaleDB to offer."""

    def __init__(self, url: str) -> None:
        """Name the ways to get it."""
        super().__init__(
            f"the database server at {redact(url)} has no TimescaleDB; install it there "
            "(Debian 13: `apt install postgresql-17-timescaledb` and "
            "shared_preload_libraries = 'timescaledb'), or run "
            "`docker run -p 5432:5432 -e POSTGRES_PASSWORD=… timescale/timescaledb:latest-pg17`, "
            'or set [database] url = "embedded"'
        )


class TimescaleNotPreloadedError(DatabaseError):
    """TimescaleDB is installed but the server did not load it."""

    def __init__(self, url: str) -> None:
        """Name the setting."""
        super().__init__(
            f"TimescaleDB is installed on the server at {redact(url)} but not loaded: set "
            "shared_preload_libraries = 'timescaledb' in postgresql.conf and restart it"
        )


class TimescalePrivilegeError(DatabaseError):
    """The role may not create the extension."""

    def __init__(self, url: str) -> None:
        """Name who can, and how."""
        super().__init__(
            f"the role of {redact(url)} may not create the extension timescaledb; as a "
            "superuser run `CREATE EXTENSION timescaledb` in that database once"
        )


class TimescaleVersionError(DatabaseError):
    """The version of TimescaleDB is known to be wrong for us."""

    def __init__(self, version: str, reason: str) -> None:
        """Name the version and why it is refused."""
        super().__init__(f"TimescaleDB {version} is refused: {reason}")


class SchemaMissingError(DatabaseError):
    """Somebody emptied the database, or put another one in its place, while we run."""

    def __init__(self) -> None:
        """Name the two remedies, and what holds until then."""
        super().__init__(
            "nodemeter's tables are missing from the database, or are not those of this "
            "version: restore a backup of it, or restart nodemeter-aggregator, which makes "
            "what is missing, empty; until then nothing is taken, and agents keep what they "
            "measure"
        )


class SchemaIncompleteError(DatabaseError):
    """The schema was migrated, and something of it is not there any more."""

    def __init__(self, missing: Sequence[str]) -> None:
        """Name what is missing; no start of ours brings it back."""
        super().__init__(
            f"the database lacks {', '.join(missing)}, which a migration made: somebody dropped "
            "it; restore a backup of the database"
        )


class QueryTooLongError(DatabaseError):
    """The database answers, but not this question in the time that a request may take."""

    def __init__(self) -> None:
        """Say what can be done about it, by whoever asked and by the operator."""
        super().__init__(
            "the query takes longer than [http] statement_seconds: ask for less at once, "
            "by a filter or a limit, or later"
        )


class SchemaNewerError(DatabaseError):
    """The database was migrated by a newer nodemeter."""

    def __init__(self, found: int, known: int) -> None:
        """Name both versions."""
        super().__init__(
            f"the database is at schema version {found}, this software knows up to {known}: "
            "it was migrated by a newer nodemeter; upgrade this one"
        )


class SchemaOlderError(DatabaseError):
    """The services' login, which may not migrate, finds the schema of an older nodemeter."""

    def __init__(self, url: str, missing: Sequence[str]) -> None:
        """Name the migrations and who is to apply them."""
        super().__init__(
            f"the database lacks {', '.join(missing)}, and the login of {redact(url)} does not "
            "own its tables: run `nodemeter-aggregator migrate` as their owner, whom "
            "[database] owner_url names"
        )


class SchemaChangedError(DatabaseError):
    """A migration that was applied is not the one that this software holds."""

    def __init__(self, name: str) -> None:
        """Name the migration."""
        super().__init__(
            f"migration {name} was applied with another content than this software's: "
            "the database belongs to another build of nodemeter"
        )


class SchemaPrivilegeError(DatabaseError):
    """The role may not make the tables."""

    def __init__(self, url: str, schema: str) -> None:
        """Name the ways to one who may."""
        super().__init__(
            f"the login of {redact(url)} may not create tables in the schema {schema}; let "
            "[database] owner_url name one that may (the database's owner), or as a superuser "
            f"run `GRANT CREATE ON SCHEMA {schema} TO …` in that database"
        )


class RoleRefusedError(DatabaseError):
    """The login may not act as the role of a service."""

    def __init__(self, url: str, role: str) -> None:
        """Name the ways to make it so."""
        super().__init__(
            f"the login of {redact(url)} may not act as {role}: run `nodemeter-aggregator "
            "migrate` as the owner of the tables, whom [database] owner_url names, or as a "
            f"superuser `GRANT {role} TO …`"
        )


class RolesMissingError(DatabaseError):
    """What services need in the database can only be given by somebody else."""

    def __init__(self, url: str, statements: Sequence[str]) -> None:
        """Give the very statements."""
        lines = "\n".join(f"  {each};" for each in statements)
        super().__init__(
            f"the services' roles and rights are not complete, and the login of {redact(url)} "
            f"may not complete them; as a superuser run in that database, once:\n{lines}"
        )


class GrantsMissingError(DatabaseError):
    """A service may not do what it has to."""

    def __init__(self, detail: str) -> None:
        """Say what, and who brings it back."""
        super().__init__(
            f"the database refuses a service what it needs ({detail}): run "
            "`nodemeter-aggregator migrate`, which grants it again"
        )


class MigrationFailedError(DatabaseError):
    """The database refused a migration; it was rolled back whole."""

    def __init__(self, name: str, detail: str) -> None:
        """Name the migration and what the database said."""
        super().__init__(f"migration {name} failed and was rolled back: {detail}")


def expected_url(url: str) -> str:
    """Say what a URL should have been, and what it is but for its password."""
    return (
        f'{redact(url)!r} is neither "embedded" nor a URL of the form '
        "postgresql://user:password@host:port/database"
    )
