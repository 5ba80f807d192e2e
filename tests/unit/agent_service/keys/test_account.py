"""What an account may be, and how accounts from all sources become one pool."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from agent_service.keys.account import Account, AccountOptions, checked_account, last4, masked, retirement
from agent_service.keys.address import checked_address
from agent_service.keys.errors import AccountInvalid, AddressNotPublic
from agent_service.keys.joining import join
from agent_service.settings import Settings

KEY = SecretStr("gsk_0123456789abcdefWXYZ")


def account(provider: str = "groq", **fields: object) -> Account:
    return Account(**{"provider": provider, "api_key": KEY, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "https://models.example/v1",
        "https://models.example:8443",
        "https://8.8.8.8/v1",
        "https://[2606:4700::1111]/v1",
    ],
)
def test_public_addresses(address: str) -> None:
    assert checked_address(address + "/", allow_private=False) == address


@pytest.mark.parametrize(
    "address",
    [
        "http://models.example/v1",
        "https://127.0.0.1/v1",
        "https://localhost/v1",
        "https://LOCALHOST./v1",
        "https://api.localhost/v1",
        "https://printer.local/v1",
        "https://10.0.0.5/v1",
        "https://169.254.169.254/latest",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "https://[fe80::1%25eth0]/v1",
        "https://0.0.0.0/v1",
    ],
)
def test_addresses_of_this_machine_or_its_network_need_leave(address: str) -> None:
    with pytest.raises(AddressNotPublic, match="allow_private") as raised:
        checked_address(address, allow_private=False)
    assert raised.value.param == "base_url"
    assert checked_address(address, allow_private=True) == address


@pytest.mark.parametrize("allow_private", [True, False])
@pytest.mark.parametrize(
    "address",
    [
        "https://user:secret-word@models.example/v1",
        "https://secret-word@models.example/v1",
        "https://models.example/v1?key=secret-word",
        "https://models.example/v1#secret-word",
        "https://models.example/{secret-word}",
        "https://models.example\\@secret-word",
        "https://models.example/secret-word\n",
        "file:///secret-word",
        "secret-word",
        "https://",
        "https://models.example:99999/secret-word",
        "https://[secret-word",
        "https://" + "a" * 3000,
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(address: str, allow_private: bool) -> None:
    with pytest.raises(AccountInvalid) as raised:
        checked_address(address, allow_private=allow_private)
    assert "secret-word" not in str(raised.value)
    assert not isinstance(raised.value, AddressNotPublic), "leave would not help"


@pytest.mark.parametrize(
    ("wrong", "param", "words"),
    [
        (account("grok"), "provider", "did you mean groq"),
        (account("my-own"), "provider", "a server of your own needs its base_url"),
        (account("github"), "provider", "retired.*since 2026-07-30.*use "),
        (account("github_models"), "provider", "retired"),
        (account("qwen_oauth"), "provider", "discontinued .since 2026-04-15"),
        (account(api_key=None), "api_key", "groq needs a key"),
        (account(api_key=SecretStr("")), "api_key", "is empty"),
        (account(api_key=SecretStr("two words")), "api_key", "blanks"),
        (account(api_key=SecretStr("key\r\nHost: evil")), "api_key", "blanks"),
        (account("azure"), "provider", "base_url: is needed"),
    ],
)
def test_an_account_that_cannot_work_is_refused(wrong: Account, param: str, words: str) -> None:
    with pytest.raises(AccountInvalid, match=words) as raised:
        checked_account(wrong, {})
    assert raised.value.param == param


def test_accounts_that_can_be_stored() -> None:
    assert checked_account(account(api_key=SecretStr(" gsk_key \n")), {}).api_key == SecretStr("gsk_key")
    assert checked_account(account("ollama", api_key=None), {}).api_key is None
    own = account("my-own", base_url="https://models.example/v1/", api_key=SecretStr("none"))
    assert checked_account(own, {}) == Account("my-own", base_url="https://models.example/v1")


SERVICE_ACCOUNT = (
    '{"type": "service_account",\n "project_id": "p", "private_key": "-----BEGIN PRIVATE KEY-----"}'
)


def test_a_google_credentials_file_is_a_key_of_vertex_ai_alone() -> None:
    stored = checked_account(account("vertex_ai", api_key=SecretStr(f" {SERVICE_ACCOUNT}\n")), {})
    assert stored.api_key == SecretStr(SERVICE_ACCOUNT) and masked(last4(stored.api_key)) == "..."
    for provider, key in (("groq", SERVICE_ACCOUNT), ("vertex_ai", "[1, 2]"), ("vertex_ai", "{broken json")):
        with pytest.raises(AccountInvalid, match="no key"):
            checked_account(account(provider, api_key=SecretStr(key)), {})
    with pytest.raises(AccountInvalid, match="no key"):
        checked_account(account("vertex_ai", api_key=SecretStr('{"x": "' + "a" * 20_000 + '"}')), {})


def test_of_a_key_at_most_four_characters_are_shown() -> None:
    assert masked(last4(KEY)) == "...WXYZ"
    assert masked(last4(SecretStr("short"))) == "..."
    assert masked(last4(None)) is None
    assert "0123456789" not in repr(account())
    assert retirement("groq") is None


def test_the_configuration_wins_over_the_store() -> None:
    settings = Settings.model_validate({"providers": {"groq": {"api_key": "configured-key"}}})
    joined = join(settings, {}, [account(), account("openrouter")])
    keys = {spec.name: spec.api_key.get_secret_value() for spec in joined.config.providers if spec.api_key}
    assert keys == {"groq": "configured-key", "openrouter": KEY.get_secret_value()}
    assert joined.stored == {"openrouter"}


def test_stored_accounts_join_those_of_the_environment() -> None:
    joined = join(Settings(), {"GROQ_API_KEY": "from-environment"}, [account(), account("openrouter")])
    assert [spec.name for spec in joined.config.providers] == ["groq", "openrouter"]
    assert joined.stored == {"openrouter"}


def test_all_usable_accounts_of_a_provider_are_used() -> None:
    off, damaged = AccountOptions(enabled=False), "The stored account was damaged."
    other, cap = SecretStr("gsk_another_key_987654"), AccountOptions(cap_usd_per_day=0)
    accounts = [
        account(account="off", options=off),
        account(account="damaged", problem=damaged),
        account(account="good", base_url="https://models.example/v1"),
        account(account="spare", api_key=other, options=cap),
        account("retired-and-own"),
    ]
    joined = join(Settings(), {}, accounts)
    assert joined.stored == {"groq:good", "groq:spare"}
    assert joined.restricted == {"groq:good"}
    assert [spec.cap_usd_per_day for spec in joined.config.providers] == [None, 0]
    assert len(joined.problems) == 2 and joined.problems[0] == damaged
    assert all(KEY.get_secret_value() not in problem for problem in joined.problems)


def test_two_accounts_with_the_same_key_are_one() -> None:
    joined = join(Settings(), {"GROQ_API_KEY": KEY.get_secret_value()}, [account(account="work")])
    assert [spec.account_id for spec in joined.config.providers] == ["groq"]
    (problem,) = joined.problems
    assert "groq/work is not used: it has the same key as groq/default" in problem
    assert KEY.get_secret_value() not in problem


def test_a_stored_account_joins_those_of_the_environment_and_gives_way_to_its_namesake() -> None:
    environ = {"GROQ_API_KEY": "one-0123456789", "GROQ_API_KEY_2": "two-0123456789", "GROQ_API_KEY_3": " "}
    stored = [account(account="2"), account(account="work", api_key=SecretStr("work-0123456789"))]
    joined = join(Settings(), environ, stored)
    assert [spec.account_id for spec in joined.config.providers] == ["groq", "groq:2", "groq:work"]
    assert joined.stored == {"groq:work"}


def test_only_addresses_that_the_operator_did_not_write_are_restricted() -> None:
    private = account("a", base_url="http://10.0.0.1/v1", options=AccountOptions(allow_private=True))
    joined = join(Settings(), {}, [private, account("groq"), account("b", base_url="https://b.example")])
    assert joined.restricted == {"b"}
