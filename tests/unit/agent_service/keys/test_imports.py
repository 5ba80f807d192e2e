"""Files of accounts: the forms that are read, and hostile ones, out of which no key comes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_service.keys.account import checked_account
from agent_service.keys.errors import AccountError
from agent_service.keys.imports import Imported, described, gives_away, read_accounts
from routing.redaction import redact

KEY, SECOND = "gsk_0123456789abcdefWXYZ", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
OWN_URL = "https://models.example/v1"


def taken(found: Imported) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (
            each.provider,
            each.account,
            each.api_key.get_secret_value() if each.api_key else None,
            each.base_url,
        )
        for each in found.accounts
    ]


def told(found: Imported) -> str:
    """All that a person gets to see of an import."""
    return "\n".join(
        [found.form, *map(described, found.accounts), *(f"{n.where}: {n.reason}" for n in found.skipped)]
    )


@pytest.mark.parametrize(
    ("record", "gives"),
    [
        ("groq: {api_key_env: GROQ_API_KEY}", False),
        ("groq: {api_key_env: GROQ_API_KEY_2}", False),
        ("groq: {api_key_env: GROQ_API_KEY, base_url: 'https://api.groq.com/openai/v1'}", False),
        ("groq: {api_key_env: GH_TOKEN}", True),
        ("groq: {api_key_env: GROQ_API_KEY, base_url: 'https://thief.example/v1'}", True),
        ("own: {api_key: '${GH_TOKEN}', base_url: 'https://thief.example/v1'}", True),
        ("own: {api_key: none, base_url: 'https://thief.example/${GH_TOKEN}'}", True),
        (f"own: {{api_key: {KEY}, base_url: 'https://models.example/v1'}}", False),
    ],
)
def test_what_a_file_would_give_away_of_the_environment(record: str, gives: bool) -> None:
    environ = dict.fromkeys(("GROQ_API_KEY", "GROQ_API_KEY_2", "GH_TOKEN"), SECOND)
    (account,) = read_accounts(record, environ).accounts
    assert gives_away(account) is gives
    assert SECOND not in described(account)


FORMS = {
    "our YAML": (
        "YAML",
        f"providers:\n  groq: {{api_key: {KEY}}}\n  own: {{base_url: '{OWN_URL}', api_key: {SECOND}}}",
    ),
    "YAML of another gateway": (
        "YAML",
        f"litellm:\n  providers:\n    groq:\n      api_key: '${{GROQ}}'\n    own:\n"
        f"      api_key: {SECOND}\n      api_base: {OWN_URL}\n",
    ),
    "JSON object": ("JSON", json.dumps({"groq": KEY, "own": {"api_key": SECOND, "url": OWN_URL}})),
    "JSON array": (
        "JSON",
        json.dumps(
            [
                {"name": "groq", "apiKey": "", "api_key": KEY},
                {"name": "own", "key": SECOND, "base-url": OWN_URL},
            ]
        ),
    ),
    "JSON providers": (
        "JSON",
        json.dumps(
            {
                "providers": [
                    {"name": "groq", "kind": "openai-compatible", "api_key_env": "GROQ"},
                    {
                        "name": "own",
                        "kind": "openai_like",
                        "base_url": OWN_URL,
                        "api_key": SECOND,
                        "enabled": True,
                    },
                ]
            }
        ),
    ),
    "provider store": (
        "provider store (.lenv)",
        "# providers\n"
        + "PROVIDER: "
        + json.dumps({"name": "groq", "kind": "openai", "api_key": KEY, "models": []})
        + "\n"
        + "PROVIDER: "
        + json.dumps({"name": "own", "base_url": OWN_URL, "api_key": SECOND})
        + "\n",
    ),
    "indented Links": (
        "Links notation",
        f'groq\n  kind openai-compatible\n  api-key "{KEY}"\n  enabled true\n\n'
        f"own\n  base-url {OWN_URL}\n  api-key '{SECOND}'\n  models \"a,b\"\n  model b\n",
    ),
    "indented Links with colons": (
        "YAML",
        f"groq:\n  kind: openai\n  api-key: {KEY}\nown:\n  api_base: {OWN_URL}\n  api-key: {SECOND}\n",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_the_same(name: str) -> None:
    form, text = FORMS[name]
    found = read_accounts(text, {"GROQ": KEY})
    assert found.form == form
    assert taken(found) == [("groq", "default", KEY, None), ("own", "default", SECOND, OWN_URL)]
    assert KEY not in told(found) and SECOND not in told(found)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            ".env",
            f"# keys\nexport GROQ_API_KEY='{KEY}'\nGROQ_API_KEY_2={SECOND}\nDEBUG=1\nACME_API_KEY={SECOND}\n",
        ),
        (".lenv", f"GROQ_API_KEY: {KEY}\nGROQ_API_KEY_2: {SECOND}\nDEBUG: 1\nACME_API_KEY: {SECOND}\n"),
    ],
)
def test_environment_variables_in_a_file(form: str, text: str) -> None:
    found = read_accounts(text, {})
    assert found.form == form
    assert taken(found) == [("groq", "default", KEY, None), ("groq", "2", SECOND, None)]
    assert [note.reason for note in found.skipped] == ["no known provider takes its key from ACME_API_KEY"]
    assert SECOND not in told(found)


def test_several_accounts_of_a_provider() -> None:
    text = json.dumps(
        {"groq": [{"account_id": "work", "api_key": KEY}, {"api_key": SECOND, "is_active": False}]}
    )
    found = read_accounts(text, {})
    assert taken(found) == [("groq", "work", KEY, None), ("groq", "2", SECOND, None)]
    assert [each.options.enabled for each in found.accounts] == [True, False]


def test_models_and_kinds() -> None:
    text = (
        "own\n  base-url https://a.example\n  kind anthropic\n  models 'a, b'\n"
        "  default-model b\n  allow-private yes\n"
    )
    (account,) = read_accounts(text, {}).accounts
    assert [card.id for card in account.options.models or ()] == ["b", "a"]
    assert (account.options.protocol, account.options.allow_private) == ("anthropic-messages", True)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"name": "groq", "kind": "telepathy", "api_key": KEY}, "its kind is none that we speak"),
        (
            {"name": "groq", "api_key_env": "UNSET"},
            "the environment variable that api_key_env names",
        ),
        (
            {"name": "groq", "api_key": "${UNSET}"},
            "its field api_key names an environment variable",
        ),
        ({"name": "groq", "encrypted_api_key": "aes256gcm:AAAA"}, "encrypted for another program"),
        ({"name": "groq", "api_key": [KEY]}, "its field api_key is no text"),
        ({"name": "groq", "api_key": KEY, "enabled": "perhaps"}, "enabled is neither true nor false"),
        ({"name": "groq", "api_key": KEY, "models": {"a": 1}}, "its field models makes no sense"),
        ({"name": "groq", "api_key": KEY, "cap_usd_per_day": -1}, "its field cap_usd_per_day makes no sense"),
        ({"name": "../etc", "api_key": KEY}, "its name is missing, or not of letters"),
        ({"name": "groq", "account": "a b", "api_key": KEY}, "the name of its account"),
        ({"api_key": KEY}, "its name is missing"),
        (KEY, "it is no record with fields"),
        (None, "it is no record with fields"),
    ],
)
def test_what_is_skipped_says_why(record: object, reason: str) -> None:
    found = read_accounts(json.dumps([record]), {})
    assert found.accounts == ()
    assert reason in found.skipped[0].reason
    assert KEY not in told(found)


def test_unknown_fields_are_named_and_the_account_is_taken() -> None:
    found = read_accounts(f"groq\n  api-key {KEY}\n  colour blue\n  {SECOND} x\n", {})
    assert taken(found) == [("groq", "default", KEY, None)] or found.skipped
    assert "colour" in told(found) and SECOND not in told(found)


def test_of_accounts_that_appear_twice_the_first_counts() -> None:
    found = read_accounts(
        json.dumps([{"name": "groq", "api_key": KEY}, {"name": "groq", "api_key": SECOND}]), {}
    )
    assert taken(found) == [("groq", "default", KEY, None)]
    assert "appears twice" in told(found)


def test_a_key_in_the_place_of_a_name_is_not_shown() -> None:
    for text in (
        f"{SECOND}\n  api-key x\n",
        f"{KEY}:\n  api_key: x\n",
        json.dumps({KEY: {"api_key": "x"}, SECOND: {}}),
        json.dumps([{"name": SECOND, "api_key": "x", KEY: 1}]),
        f"{SECOND.upper()}_KEY=x\n",
        f"providers: !{KEY} x\n",
    ):
        shown = [f"{n.where}: {n.reason}" for n in read_accounts(text, {}).skipped]
        assert KEY not in str(shown) and SECOND not in str(shown).lower()


def test_a_key_in_the_place_of_a_model_is_refused_and_not_shown() -> None:
    found = read_accounts(json.dumps([{"name": "own", "base_url": OWN_URL, "models": [KEY]}]), {})
    assert found.accounts == ()
    assert [note.reason for note in found.skipped] == [
        "what looks like a key is among the names of its models"
    ]


BROKEN_YAML = (
    f"providers:\n  groq:\n    api_key: {KEY}\n"
    f'  mine:\n    base_url: "{OWN_URL}"\n      allow_private: true\n'
)


@pytest.mark.parametrize(
    ("name", "text", "where", "reason"),
    [
        (
            "b.yaml",
            BROKEN_YAML,
            "line 6",
            "it is not valid YAML: its indentation does not fit the lines above it",
        ),
        ("", BROKEN_YAML, "line 6", "it is not valid YAML"),
        ("b.yml", f"groq\n  api-key {KEY}\n", "the file", "it is not YAML with names and fields"),
        ("b.json", f"groq\n  api-key {KEY}\n", "line 1", "it is not valid JSON"),
        (
            "",
            f"groq: {{api_key: {KEY}}}\ngroq: {{api_key: {SECOND}}}\n",
            "line 2",
            "the key `groq` appears twice",
        ),
        ("", f"{KEY}: a\n{KEY}: b\n", "line 2", "the key `...` appears twice, first on line 1"),
        ("b.yaml", f"a: !!bool {KEY}\n", "the file", "it is not valid YAML: a value makes no sense"),
        ("b.yaml", f"a: !{KEY} x\n", "line 1", "could not determine a constructor for the tag `...`"),
        (".env", f"GROQ_API_KEY={KEY}\ngroq\n", "line 2", "it is no assignment such as NAME=value"),
        ("", f"GROQ_API_KEY={KEY}\nOPENAI_API_KEY='{SECOND}\n", "line 2", "a quote is opened and not closed"),
        ("", f"GROQ_API_KEY='{KEY}'{SECOND}\n", "line 1", "something follows the closing quote"),
        ("", f"GROQ_API_KEY={KEY}\n".encode("utf-16").decode("utf-8", "replace"), "line 1", "it is no text"),
        ("", f"GROQ_API_KEY={KEY}\nx\0y\n", "line 2", "it is no text"),
    ],
)
def test_of_a_file_that_is_not_of_its_form_nothing_is_taken(
    name: str, text: str, where: str, reason: str
) -> None:
    found = read_accounts(text, {}, name)
    (note,) = found.skipped
    assert (found.accounts, note.lost, note.where) == ((), "file", where)
    assert reason in note.reason
    assert KEY not in told(found) and SECOND not in told(found)


def test_in_links_notation_records_below_a_heading_are_accounts_of_their_own() -> None:
    text = (
        f'providers\n  groq\n    api_key {KEY}\n  mine\n    base_url "{OWN_URL}"\n    allow_private true\n'
        f"own:\n  api-key {SECOND}\n"
    )
    for each in (text, text.replace("  ", "\t"), text.replace("providers", "providers:")):
        found = read_accounts(each, {}, "keys.lino")
        assert taken(found) == [
            ("groq", "default", KEY, None),
            ("mine", "default", None, OWN_URL),
            ("own", "default", SECOND, None),
        ]
        assert found.skipped == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"mine\n  base_url {OWN_URL}\n  groq\n    api_key {KEY}\n", 3),
        (f"mine\n  base_url {OWN_URL}\n    api_key {KEY}\n", 3),
        (f"mine\n    base_url {OWN_URL}\n  api_key {KEY}\n", 3),
        (f"keys\n  groq\n    api_key {KEY}\n  mine\n    base_url {OWN_URL}\n", 2),
        (f"keys\n  groq\n  api_key {KEY}\n  mine\n  base_url {OWN_URL}\n", 2),
        (f"keys\n  api_key {KEY}\n  base_url https://a.example\n  url {OWN_URL}\n", 4),
        (f"providers\n  mine\n    base_url {OWN_URL}\n    groq\n      api_key {KEY}\n", 4),
    ],
)
def test_in_links_notation_no_record_takes_over_fields_of_another(text: str, line: int) -> None:
    found = read_accounts(text, {})
    assert found.form == "Links notation" and found.accounts == ()
    assert found.skipped[0].lost == "account" and f"line {line} " in found.skipped[0].reason
    assert KEY not in told(found)


def test_what_stands_below_no_name_is_nobodys() -> None:
    for text in (
        f"  api_key {KEY}\n",
        f"providers\n  api_key {KEY}\n",
        f"providers\n    groq\n  api_key {KEY}\n",
    ):
        found = read_accounts(text, {}, "keys.lino")
        assert KEY not in str([each.api_key and each.api_key.get_secret_value() for each in found.accounts])
        assert found.skipped[-1].reason == "it stands below no provider's name"


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_named_accounts_have_what_the_providers_row_says(write: Callable[[object], str]) -> None:
    row = {"api_base": OWN_URL, "allow_private": True, "cap_usd_per_day": 2}
    accounts = {
        "work": {"key": SECOND},
        "spare": "x" * 12,
        "far": {"api_key": "y" * 12, "url": "https://b.example"},
    }
    found = read_accounts(write({"providers": {"own": {**row, "accounts": accounts}}}), {})
    assert sorted(taken(found)) == [
        ("own", "far", "y" * 12, "https://b.example"),
        ("own", "spare", "x" * 12, OWN_URL),
        ("own", "work", SECOND, OWN_URL),
    ]
    assert {(each.options.allow_private, each.options.cap_usd_per_day) for each in found.accounts} == {
        (True, 2)
    }
    assert found.skipped == ()


def test_a_key_beside_accounts_is_that_of_the_default_one_alone() -> None:
    accounts = {"work": {"api_key": SECOND}, "none": {"base_url": OWN_URL}, "empty": None}
    found = read_accounts(json.dumps({"groq": {"api_key": KEY, "accounts": accounts}}), {})
    assert taken(found) == [("groq", "default", KEY, None), ("groq", "work", SECOND, None)]
    assert [(note.where, note.reason) for note in found.skipped] == [
        ("groq, account none", "the account has no key of its own"),
        ("groq, account empty", "the account has no key of its own"),
    ]
    listed = {"groq": {"accounts": [{"name": "work", "api_key": KEY}]}, "own": {"accounts": 3}}
    found = read_accounts(json.dumps(listed), {})
    assert taken(found) == [("groq", "work", KEY, None)]
    assert found.skipped[0].reason == "its accounts are neither a list nor a mapping"


def test_comments_quotes_and_repeated_names_in_a_file_of_variables() -> None:
    text = (
        f"GROQ_API_KEY={SECOND}\nOPENAI_API_KEY={KEY}# # work\nMISTRAL_API_KEY='{KEY} # a' # b\n"
        f"GEMINI_API_KEY=  # none\nGROQ_API_KEY={KEY} # work\n"
    )
    found = read_accounts(text, {}, ".env.local")
    assert {each[0]: each[2] for each in taken(found)} == {
        "openai": f"{KEY}#",
        "mistral": f"{KEY} # a",
        "groq": KEY,
    }
    assert [(note.where, note.reason, note.lost) for note in found.skipped] == [
        ("line 1", "GROQ_API_KEY appears again on line 5; the last one counts", "part")
    ]


def test_an_empty_file_says_that_it_is() -> None:
    for text in ("", "\n\n# nothing\n", "{}", "[]", "DEBUG=1\n"):
        found = read_accounts(text, {})
        assert found.accounts == () and len(found.skipped) == 1


names = st.sampled_from(
    ["groq", "own", "name", "api_key", "api-key", "base_url", "models", "accounts", "providers"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
leaves |= st.sampled_from(
    [KEY, SECOND, f"Bearer {KEY}", f"https://u:{SECOND}@x.example", "${HOME}", "${", "none"]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
lines = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "\t", "PROVIDER: ", "export ", "- ", "# ", "{", "["]),
        names | st.sampled_from([KEY, SECOND]) | st.text(max_size=12),
        st.sampled_from(["", ": ", "=", " ", ' "', ": {", ": [", ": &a ", ": *a", ": !!python/name:os "]),
        st.sampled_from([KEY, SECOND, f'"{KEY}"']) | st.text(max_size=20),
    ).map("".join),
    max_size=12,
).map("\n".join)


def harmless(text: str) -> None:
    """Nothing is raised, whatever the file holds, and nothing that is said has a key in it."""
    for name in ("", "a.yaml", "a.json", ".env", "a.lino"):
        _harmless(text, name)


def _harmless(text: str, name: str) -> None:
    found = read_accounts(text, {"HOME": "/home/x"}, name)
    shown = told(found) + repr(found)
    for account in found.accounts:
        try:
            shown += repr(checked_account(account, {}))
        except AccountError as error:
            shown += str(error)
    outside_names = shown
    for account in found.accounts:  # a record may name its provider as it likes, and that name is its name
        outside_names = outside_names.replace(account.provider, "").replace(account.account, "")
        outside_names = outside_names.replace(str(account.base_url), "")
        for model in account.options.models or ():  # and its models, unless that looks like a key
            assert redact(model.id) == model.id
            outside_names = outside_names.replace(model.id, "")
    for key in (KEY, SECOND):
        assert key not in outside_names


@settings(max_examples=150, deadline=None)
@given(trees)
def test_hostile_json_and_yaml(tree: object) -> None:
    harmless(json.dumps(tree))
    harmless(yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=300, deadline=None)
@given(lines | st.text(max_size=200))
@example("[" * 5000)
@example("{" * 5000)
@example("- " * 3000)
@example("a: " + "9" * 5000)
@example("groq\n  api-key " + "\0" * 10)
@example(f"groq\n  models {{{KEY}: 1}}\n  cap_usd_per_day {KEY}\n  api-key {KEY}")
@example("PROVIDER: {" + KEY)
@example("a: 2026-99-99")
def test_hostile_text(text: str) -> None:
    harmless(text)
