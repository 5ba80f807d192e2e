"""One frozen value from four sources, and an error a person can act on for every mistake."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.config_file import ConfigError, read_config_file
from agent_service.data_dir import prepare_data_dir
from agent_service.principals import Principal
from agent_service.sections import is_loopback
from agent_service.settings import Settings, load_settings, routing_config

HOME = {"HOME": "/home/someone"}
KEY = "a-long-enough-key"


def load(
    tmp_path: Path, yaml: str = "", overrides: Mapping[str, Any] | None = None, **environ: str
) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(yaml, encoding="utf-8")
    return load_settings(file, overrides or {}, HOME | environ)


def mistake(
    tmp_path: Path, yaml: str = "", overrides: Mapping[str, Any] | None = None, **environ: str
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, yaml, overrides, **environ)
    return str(caught.value).replace(str(tmp_path), "DIR")


# --- sources


def test_defaults_need_no_file_and_follow_the_xdg_folders() -> None:
    settings = load_settings(None, {}, HOME)
    assert settings.server.host == "127.0.0.1" and settings.server.port == 8000
    assert settings.data_dir == Path("/home/someone/.local/share/agent-service")
    elsewhere = load_settings(None, {}, HOME | {"XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "/nowhere"})
    assert elsewhere.data_dir == Path("/data/agent-service")
    relative = load_settings(None, {}, HOME | {"XDG_DATA_HOME": "data"})
    assert relative.data_dir == settings.data_dir


def test_the_default_file_is_read_where_xdg_says(tmp_path: Path) -> None:
    (tmp_path / "agent-service").mkdir()
    (tmp_path / "agent-service" / "config.yaml").write_text("server: {port: 9}")
    assert load_settings(None, {}, HOME | {"XDG_CONFIG_HOME": str(tmp_path)}).server.port == 9


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "absent.yaml", {}, HOME)


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    yaml = "server: {port: 1, max_in_flight: 2}\nrouter: {num_retries: 1}"
    settings = load(
        tmp_path, yaml, {"server.port": 3, "server.host": None}, AGENT_SERVICE_SERVER__MAX_IN_FLIGHT="4"
    )
    assert (settings.server.port, settings.server.max_in_flight, settings.router.num_retries) == (3, 4, 1)


def test_nested_overrides_and_dotted_ones_are_the_same(tmp_path: Path) -> None:
    nested = load(tmp_path, "", {"server": {"port": 3, "host": None}, "state": {"data_dir": "/d"}})
    assert nested == load(tmp_path, "", {"server.port": 3, "state.data_dir": "/d"})


def test_the_environment_can_write_lists_mappings_and_null(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "router: {timeout: 5}\nagent: {max_run_tokens: 5}",
        AGENT_SERVICE_SERVER__ALLOWED_HOSTS="a.example, b.example",
        AGENT_SERVICE_SERVER__API_KEYS=f"[{{name: ci, key: {KEY}}}]",
        AGENT_SERVICE_AGENT__MAX_RUN_TOKENS="null",
        AGENT_SERVICE_PROVIDERS__TEAM="{base_url: 'http://10.0.0.5:1/v1', api_key: none}",
        AGENT_SERVICE_ROUTER__FREE_ONLY="true",
        AGENT_SERVICE_ROUTER__TIMEOUT="",
    )
    assert settings.server.allowed_hosts == ("a.example", "b.example")
    assert settings.server.api_keys[0].name == "ci"
    assert settings.agent.max_run_tokens is None
    assert settings.providers["team"].base_url == "http://10.0.0.5:1/v1"
    assert settings.router.free_only and settings.router.timeout == 5


def test_the_clients_variables_and_service_discovery_are_no_settings(tmp_path: Path) -> None:
    load(
        tmp_path,
        AGENT_SERVICE_URL="http://x",
        AGENT_SERVICE_API_KEY="k",
        AGENT_SERVICE_SERVICE_HOST="10.0.0.1",
        AGENT_SERVICE_SERVICE_PORT_HTTP="80",
        AGENT_SERVICE_PORT="tcp://10.0.0.1:8000",
        AGENT_SERVICE_PORT_8000_TCP_ADDR="10.0.0.1",
    )
    assert "AGENT_SERVICE_PORT: port: there is no such key" in mistake(tmp_path, AGENT_SERVICE_PORT="9000")


def test_headings_with_nothing_below_are_empty_sections(tmp_path: Path) -> None:
    assert load(tmp_path, "server:\nrouter:\nproviders:\n") == load(tmp_path)


# --- ${NAME}


def test_variables_are_put_into_values_of_any_depth(tmp_path: Path) -> None:
    yaml = "notify: {url: 'https://${H}/x'}\nserver: {port: '${P}', api_keys: [{name: a, key: '${K}'}]}"
    settings = load(tmp_path, yaml, H="hook.example", P="81", K=KEY)
    assert settings.notify.url == "https://hook.example/x"
    assert settings.server.port == 81
    assert settings.server.api_keys[0].sha256 == hashlib.sha256(KEY.encode()).hexdigest()


def test_what_a_variable_holds_is_not_looked_into_again(tmp_path: Path) -> None:
    assert load(tmp_path, "notify: {url: 'https://${H}'}", H="${HOME}").notify.url == "https://${HOME}"


def test_two_dollar_signs_stand_for_the_text_itself(tmp_path: Path) -> None:
    assert load(tmp_path, "notify: {command: 'tell $${USER} $5'}").notify.command == ("tell", "${USER}", "$5")


def test_an_unset_variable_is_an_error_that_names_key_and_variable(tmp_path: Path) -> None:
    message = mistake(tmp_path, "providers:\n  groq: {api_key: '${GROQ}'}")
    assert message.startswith("DIR/config.yaml, line 2: providers.groq.api_key: ")
    assert "environment variable GROQ is not set" in message


# --- mistakes


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("server:\n  prot: 1", "config.yaml, line 2: server.prot: there is no such key; did you mean port?"),
        ("sever: {}", "line 1: sever: there is no such key; did you mean server?"),
        (
            "providers: {x: {api_kye: 1}}",
            "line 1: providers.x.api_kye: there is no such key; did you mean api_key",
        ),
        (
            "models: {code: [{provider: a, modle: b}]}",
            "models.code[0].modle: there is no such key; did you mean",
        ),
        ("server: {port: many}", "server.port: Input should be a valid integer"),
        ("server: {port: 70000}", "server.port: "),
        ("agent: {approvals: {run_command: maybe}}", "agent.approvals.run_command: Input should be 'auto'"),
        ("agent: {allowed_roots: [src]}", "agent.allowed_roots[0]: must be an absolute path"),
        ("agent: {tools: ['a b:c']}", "agent.tools: 'a b:c' is not of the form"),
        ("router: {timeout: .nan}", "router.timeout: "),
        ("providers: {groq: {api_key: 12345}}", "put it in quotes"),
        ("providers: {groq: {api_key: ''}}", "providers.groq.api_key: is empty"),
        ("providers: {x: {base_url: 'ftp://x'}}", "must start with http://"),
        ("server: {host: 0.0.0.0}", "line 1: server: host 0.0.0.0 can be reached from other machines"),
        ("server: {api_keys: [{name: a, key: short}]}", "shorter than 8 characters"),
        ("server: {api_keys: [{name: a, key: 'two words'}]}", "without blanks"),
        ("server: {api_keys: [{name: a}]}", "give either `key` or `sha256`"),
        ("server: {api_keys: [{name: a, sha256: abc}]}", "server.api_keys[0].sha256"),
        ("server: {allowed_hosts: ['*']}", "not a plain host name"),
        ("server: {allowed_origins: ['null']}", "is not an origin"),
        ("server:\n  port: 1\n  port: 2", "line 3: the key 'port' appears twice, first on line 2"),
        ("- server", "must be a mapping"),
        ("server", "must be a mapping"),
        ("a: &a [1]\nb: *a", "line 2: aliases"),
        ("server: {<<: {port: 1}}", "a key must be a plain word"),
        ("? [a]\n: 1", "a key must be a plain word"),
        ("server: !!python/object:os.system {}", "config.yaml"),
        ("x: !!python/name:os.system ''", "config.yaml, line 1"),
        ("server: {port: 1", "config.yaml, line"),
        ("a: 1\n---\nb: 2", "config.yaml, line 2"),
        ("a: 2024-99-99", "config.yaml"),
        ("a: " + "9" * 5000, "config.yaml"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("#" * 300_000, "larger than 256 KiB"),
        ("notify: {url: '${A-b}'}", "names no environment variable"),
    ],
)
def test_a_mistake_says_where_and_why(tmp_path: Path, yaml: str, expected: str) -> None:
    assert expected in mistake(tmp_path, yaml)


def test_every_mistake_is_told_at_once_with_its_own_source(tmp_path: Path) -> None:
    lines = mistake(
        tmp_path, "server: {prot: 1}", {"router.timeout": -1}, AGENT_SERVICE_AGENT__MAX_STEPS="0"
    ).splitlines()
    assert len(lines) == 3
    assert any(line.startswith("DIR/config.yaml, line 1: server.prot") for line in lines)
    assert any(line.startswith("environment variable AGENT_SERVICE_AGENT__MAX_STEPS: ") for line in lines)
    assert any(line.startswith("command line: router.timeout: ") for line in lines)


def test_no_message_shows_a_key(tmp_path: Path) -> None:
    secret = "sk-do-not-show-me"
    for yaml in (
        f"server: {{api_keys: [{{name: '', key: {secret}}}]}}",
        f"server: {{api_keys: [{{name: a, key: [{secret}]}}]}}",
        f"providers: {{groq: {{api_key: [{secret}]}}}}",
        f"state: {{url: [{secret}]}}",
    ):
        assert secret not in mistake(tmp_path, yaml)
    settings = load(
        tmp_path,
        f"server: {{api_keys: [{{name: a, key: {secret}}}]}}\nproviders: {{groq: {{api_key: {secret}}}}}",
    )
    assert secret not in repr(settings) and secret not in settings.model_dump_json()


def test_a_file_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"server:\n  host: \xff\n")
    with pytest.raises(ConfigError, match="line 2: it is not UTF-8"):
        load_settings(file, {}, HOME)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path, {}, HOME)


@given(st.binary(max_size=200) | st.text(alphabet="a:[]{}&*!?-|>'\"#%\n \t$", max_size=60).map(str.encode))
def test_no_content_gives_anything_but_data_or_a_config_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_bytes(content)
        with contextlib.suppress(ConfigError):
            assert isinstance(read_config_file(file, {}).data, dict)


# --- who is let in


def test_keys_stand_for_principals(tmp_path: Path) -> None:
    yaml = f"""
server:
  host: 0.0.0.0
  api_keys:
    - {{name: alice, key: {KEY}}}
    - {{name: ops, sha256: {"AB" * 32}, admin: true, owner: team-a, allowed_roots: [/srv/team-a, ~/x]}}
"""
    alice, ops = load(tmp_path, yaml).server.api_keys
    assert alice.principal == Principal("alice")
    assert ops.sha256 == "ab" * 32
    assert ops.principal == Principal(
        "team-a", admin=True, allowed_roots=(Path("/srv/team-a"), Path("/home/someone/x"))
    )


def test_two_keys_of_one_name_or_value_are_refused(tmp_path: Path) -> None:
    for second in ("{name: a, key: another-long-key}", f"{{name: b, key: {KEY}}}"):
        yaml = f"server: {{api_keys: [{{name: a, key: {KEY}}}, {second}]}}"
        assert "the same name or the same key" in mistake(tmp_path, yaml)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.1", False),
    ],
)
def test_only_loopback_needs_no_key(tmp_path: Path, host: str, loopback: bool) -> None:
    if loopback:
        assert is_loopback(load(tmp_path, f"server: {{host: '{host}'}}").server.host)
    else:
        assert "keys are needed" in mistake(tmp_path, f"server: {{host: '{host}'}}")


def test_usual_roots_are_home_temporary_and_current_folder() -> None:
    home, tmp = Path("/home/someone"), Path("/tmp")
    usual = Settings().effective_roots(Path("/srv/app"), home, tmp)
    assert usual == (home, tmp, Path("/srv/app"))
    for folder in ("/", "/etc", "/usr/lib", "/var", "/var/lib/x", "/private/etc/x", "/cores", "/home"):
        assert Settings().effective_roots(Path(folder), home, tmp) == (home, tmp)
    assert Settings().effective_roots(home, Path("/"), tmp) == (tmp, home)
    chosen = Settings.model_validate({"agent": {"allowed_roots": "/a,/b"}})
    assert chosen.effective_roots(Path("/srv"), home, tmp) == (Path("/a"), Path("/b"))


# --- providers


def test_a_known_provider_needs_no_more_than_its_key(tmp_path: Path) -> None:
    yaml = "providers:\n  groq: {api_key: '${K}'}\n  deepseek:\nmodels: {code: [{provider: groq, model: m}]}"
    environ = {"DEEPSEEK_API_KEY": "sk-deep\n"}
    routing = routing_config(load(tmp_path, yaml, K="gsk"), environ)
    groq, deepseek = routing.providers
    assert groq.api_key is not None and groq.api_key.get_secret_value() == "gsk"
    assert groq.base_url.startswith("https://") and groq.models
    assert deepseek.api_key is not None and deepseek.api_key.get_secret_value() == "sk-deep"
    assert routing.aliases["code"][0].model == "m"


def test_an_own_server_is_described_in_full(tmp_path: Path) -> None:
    yaml = """
providers:
  team: {protocol: openai-chat, base_url: "http://10.0.0.5:8080/v1/", api_key: none,
         models: [{id: coder-large, quality: 0.8, context_window: 131072, tools: true}], unsupported: [seed]}
"""
    (team,) = routing_config(load(tmp_path, yaml), {}).providers
    assert team.base_url == "http://10.0.0.5:8080/v1" and team.api_key is None
    assert team.models[0].id == "coder-large" and team.unsupported == {"seed"} and team.is_local


def test_a_provider_may_be_asked_in_another_format(tmp_path: Path) -> None:
    yaml = """
providers:
  cohere: {api_key: k, protocol: openai-chat, base_url: "https://api.cohere.ai/compatibility/v1"}
  azure: {api_key: k, base_url: "https://mine.openai.azure.com", api_version: 2025-04-01-preview,
          models: [{id: my-deployment}]}
  claude: {protocol: anthropic-messages, base_url: "http://10.0.0.5:8080", api_key: none}
"""
    cohere, azure, claude = routing_config(load(tmp_path, yaml), {}).providers
    assert cohere.protocol == "openai-chat" and not cohere.unsupported
    assert azure.protocol == "azure-openai" and azure.api_version == "2025-04-01-preview"
    assert claude.protocol == "anthropic-messages" and "temperature" in claude.unsupported


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("groq: {}", "providers.groq.api_key: is missing; write it here, or set GROQ_API_KEY"),
        ("mine: {api_key: none}", "providers.mine.base_url: is needed"),
        ("'Bad Name': {base_url: 'http://x'}", "providers.Bad Name.name"),
    ],
)
def test_an_incomplete_provider_is_an_error(tmp_path: Path, entry: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        routing_config(load(tmp_path, f"providers:\n  {entry}"), {})
    assert expected in str(caught.value)


def test_without_providers_the_usual_variables_decide() -> None:
    environ = {
        "OPENAI_API_KEY": "sk-1",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "GROQ_API_KEY": "gsk",
        "DEEPSEEK_API_KEY": " ",
        "LITELLM_URL": "http://127.0.0.1:4000",
        "OLLAMA_HOST": "0.0.0.0:11434",
    }
    found = {spec.name: spec for spec in routing_config(Settings(), environ).providers}
    assert set(found) == {"openai", "groq", "litellm_proxy"}
    assert found["openai"].base_url == "http://127.0.0.1:9/v1"
    assert found["litellm_proxy"].base_url == "http://127.0.0.1:4000"
    assert found["litellm_proxy"].api_key is None
    assert "gsk" not in repr(found)


def test_configured_providers_are_the_only_ones(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-1"}
    settings = load(tmp_path, "providers: {team: {base_url: 'http://127.0.0.1:1/v1', api_key: none}}")
    assert [spec.name for spec in routing_config(settings, environ).providers] == ["team"]


# --- the data folder


def test_the_data_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    made = prepare_data_dir(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700
    assert prepare_data_dir(made) == made


def test_an_open_folder_is_closed_only_when_it_is_ours_to_close(tmp_path: Path) -> None:
    for name, content in (("empty", None), ("used", "state.db")):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(0o755)
        if content:
            (folder / content).touch()
        assert prepare_data_dir(folder).stat().st_mode & 0o777 == 0o700
    foreign = tmp_path / "documents"
    foreign.mkdir()
    foreign.chmod(0o755)
    (foreign / "letter.txt").touch()
    with pytest.raises(ConfigError, match="chmod 700"):
        prepare_data_dir(foreign)
    assert foreign.stat().st_mode & 0o777 == 0o755


def test_a_data_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError):
            prepare_data_dir(path)
    if os.geteuid() == 0:
        os.chown(tmp_path / "file", 12345, 12345)
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 12345, 12345)
        with pytest.raises(ConfigError, match="belongs to another user"):
            prepare_data_dir(other)


# --- several accounts


ACCOUNTS = """
providers:
  groq:
    cap_usd_per_day: 5
    headers: {x-shared: "1"}
    accounts:
      work: {api_key: work-key, cap_usd_per_day: 0, limits: {requests_per_day: 1000}}
      paid: {api_key: paid-key, tier: paid, headers: {x-own: "2"}}
"""


def accounts(tmp_path: Path, yaml: str, **environ: str) -> dict[str, str]:
    """Account -> key."""
    specs = routing_config(load(tmp_path, yaml), environ).providers
    return {each.account_id: each.api_key.get_secret_value() for each in specs if each.api_key}


def test_a_provider_has_as_many_accounts_as_are_written_down(tmp_path: Path) -> None:
    config = routing_config(load(tmp_path, ACCOUNTS), {"GROQ_API_KEY": "usual-key"})
    default, work, paid = config.providers
    assert [each.account_id for each in config.providers] == ["groq", "groq:work", "groq:paid"]
    assert [each.cap_usd_per_day for each in config.providers] == [5, 0, 5]
    assert (default.tier, paid.tier, work.limits.requests_per_day) == ("free", "paid", 1000)
    assert paid.headers == {"x-shared": "1", "x-own": "2"} and default.headers == {"x-shared": "1"}
    assert default.models == work.models != () and all(card.free for card in work.models)
    assert [card.id for card in paid.models] == [card.id for card in work.models]
    assert not any(card.free for card in paid.models), "a paid account is no free one"
    assert accounts(tmp_path, ACCOUNTS) == {"groq:work": "work-key", "groq:paid": "paid-key"}


def test_numbered_variables_are_further_accounts(tmp_path: Path) -> None:
    environ = {
        "GROQ_API_KEY": "one",
        "GROQ_API_KEY_2": "two",
        "GROQ_API_KEY3": "three",
        "GROQ_API_KEY_X": "x",
    }
    wanted = {"groq": "one", "groq:2": "two", "groq:3": "three"}
    assert accounts(tmp_path, "", **environ) == wanted
    assert accounts(tmp_path, "providers: {groq: }", **environ) == wanted
    assert accounts(tmp_path, "providers: {groq: {api_key: own}}", **environ) == {"groq": "own"}
    assert accounts(tmp_path, "", GROQ_API_KEY_2="two") == {"groq:2": "two"}
    assert accounts(tmp_path, "providers: {groq: }", GROQ_API_KEY_2="two") == {"groq:2": "two"}


def test_the_same_key_twice_is_one_account(tmp_path: Path) -> None:
    assert accounts(tmp_path, "", GROQ_API_KEY="one", GROQ_API_KEY_2="one") == {"groq": "one"}
    twice = "providers: {groq: {api_key: one, accounts: {work: {api_key: one}}}}"
    with pytest.raises(
        ConfigError, match=r"accounts\.work: has the same key as the account default"
    ) as caught:
        routing_config(load(tmp_path, twice), {})
    assert "'one'" not in str(caught.value)
    project = "providers: {groq: {api_key: one, accounts: {work: {api_key: one, headers: {x-project: b}}}}}"
    assert len(accounts(tmp_path, project)) == 2


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{accounts: {default: {api_key: k1}}}", "is the account whose api_key stands beside"),
        ("{accounts: {'no name': {api_key: k1}}}", "providers.groq.accounts"),
        ("{accounts: {work: {}}}", "api_key"),
        ("{accounts: {work: {api_key: k1, cap_usd_per_day: -1}}}", "cap_usd_per_day"),
        ("{api_key: k1, limits: {requests_per_day: 0}}", "requests_per_day"),
    ],
)
def test_a_mistake_in_an_account_is_told(tmp_path: Path, entry: str, expected: str) -> None:
    assert expected in mistake(tmp_path, f"providers: {{groq: {entry}}}")
