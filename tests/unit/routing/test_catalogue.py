"""The shipped facts: complete enough to use, and free of what we may not ship."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources

import pytest
from pydantic import SecretStr

from routing.candidate import Candidate
from routing.catalogue import known_models, known_providers, nearest_providers, spec_for
from routing.config import ModelCard
from routing.errors import ProviderNotFound
from routing.terms import Terms, all_terms, sources, terms_of
from routing.usage import Prices, Tokens


def test_every_row_makes_a_spec() -> None:
    for name, known in known_providers().items():
        spec = spec_for(name, "sk-test")
        assert spec.name == name and spec.base_url == known.base_url
        assert spec.base_url.startswith("https://") or spec.is_local or name == "litellm_proxy"
        assert len({card.id for card in spec.models}) == len(spec.models)


def test_model_rows_belong_to_shipped_providers() -> None:
    rows = json.loads(resources.files("routing.data").joinpath("models.json").read_bytes())["models"]
    assert {row["provider"] for row in rows} <= set(known_providers())
    assert sum(len(known_models(name)) for name in known_providers()) == len(rows)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("openai", "OPENAI_API_KEY"), ("groq", "GROQ_API_KEY"), ("mistral", "MISTRAL_API_KEY")],
)
def test_usual_variables(name: str, variable: str) -> None:
    assert known_providers()[name].env_keys[0] == variable


def test_local_servers_read_no_key_of_a_cloud() -> None:
    assert known_providers()["ollama"].env_keys == ()
    assert "LITELLM_URL" in known_providers()["litellm_proxy"].env_base_url


def test_nothing_of_artificial_analysis_ships() -> None:
    for name in ("models.json", "providers.json", "terms.json"):
        text = resources.files("routing.data").joinpath(name).read_text()
        assert "artificial" not in text.lower() and "aa_" not in text
    assert "CC BY 4.0" in resources.files("routing.data").joinpath("README.md").read_text()


def test_spec_for_takes_key_and_models() -> None:
    spec = spec_for("groq", SecretStr("k"), models=[ModelCard(id="mine")])
    assert spec.api_key is not None and spec.api_key.get_secret_value() == "k"
    assert [card.id for card in spec.models] == ["mine"]


def test_another_address_is_asked_for_its_models() -> None:
    assert spec_for("openai", "k", base_url="http://127.0.0.1:9/v1").models == ()
    assert spec_for("openai", "k", base_url="https://api.openai.com/v1/").models == known_models("openai")


def test_an_account_id_is_no_other_address() -> None:
    mine = known_providers()["cloudflare"].base_url.replace("{account_id}", "0a1b")
    assert spec_for("cloudflare", "k", base_url=mine).models == known_models("cloudflare") != ()


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("openai", "openai-chat"),
        ("anthropic", "anthropic-messages"),
        ("azure", "azure-openai"),
        ("cohere", "cohere-chat"),
        ("gemini", "gemini"),
    ],
)
def test_each_row_names_its_format(name: str, protocol: str) -> None:
    assert spec_for(name, "k").protocol == protocol


def test_gemini_is_spared_what_its_newer_models_refuse() -> None:
    assert {"temperature", "top_p", "logit_bias"} <= spec_for("gemini", "k").unsupported


def test_a_row_in_another_format_takes_the_fields_of_that_format() -> None:
    compatible = "https://api.cohere.ai/compatibility/v1"
    spec = spec_for("cohere", "k", base_url=compatible, protocol="openai-chat")
    assert spec.protocol == "openai-chat" and not spec.unsupported
    assert "logit_bias" in spec_for("cohere", "k").unsupported


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ProviderNotFound, match="groq"):
        spec_for("grok", None)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("azure_openai", "azure"),
        ("nim", "nvidia_nim"),
        ("google", "gemini"),
        ("google-ai-studio", "gemini"),
        ("hf", "huggingface"),
        ("Together AI", "together"),
        ("open-router", "openrouter"),
    ],
)
def test_a_provider_is_found_by_its_other_names(name: str, meant: str) -> None:
    assert nearest_providers(name) == (meant,)


def test_importing_reads_nothing() -> None:
    code = (
        "import sys\n"
        "sys.addaudithook(lambda event, a: event == 'open' and str(a[0]).endswith('.json') and sys.exit(3))\n"
        "import routing.catalogue"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_cache_gives_costs_no_more_than_the_prompt() -> None:
    cached = [card for name in known_providers() for card in known_models(name) if card.cached_input_price]
    assert len(cached) > 50
    for card in cached:
        assert card.input_price and card.cached_input_price
        assert card.cached_input_price <= card.input_price
        assert card.cache_write_price is None or card.cache_write_price >= card.input_price


def test_usage_costs_what_the_shipped_prices_say() -> None:
    """A step of an agent at Claude: most of the prompt from the cache, some written to it, some thinking."""
    card = next(each for each in known_models("anthropic") if each.id == "claude-sonnet-4-6")
    prices = Prices.of(Candidate(spec_for("anthropic", "k"), card))
    usage = {
        "prompt_tokens": 100_000,
        "completion_tokens": 1_000,
        "prompt_tokens_details": {"cached_tokens": 90_000, "cache_write_tokens": 8_000},
        "completion_tokens_details": {"reasoning_tokens": 400},
    }
    expected = (2_000 * 3 + 90_000 * 0.3 + 8_000 * 3.75 + 1_000 * 15) / 1e6
    assert prices.cost(Tokens.of(usage)) == pytest.approx(expected)
    assert Tokens.of(usage).reasoning == 400


def test_terms_are_those_of_shipped_providers_and_name_their_sources() -> None:
    assert set(all_terms()) <= set(known_providers())
    for terms in all_terms().values():
        assert all(limit.source in sources() and limit.words for limit in terms.limits)
        assert terms.credit is None or terms.credit.source in sources()
    assert terms_of("no such provider") == Terms()


def test_terms_tell_what_a_person_should_know() -> None:
    assert "evaluation" in (terms_of("nvidia_nim").restriction or "")
    assert "non-commercial" in (terms_of("cohere").restriction or "")
    assert "EEA" in (terms_of("gemini").training or "")
    assert "20 requests per minute (free models)" in [each.words for each in terms_of("openrouter").limits]
    assert "1,000,000 tokens per day (trial)" in [each.words for each in terms_of("cerebras").limits]
    assert "1 request per second (account)" in [each.words for each in terms_of("mistral").limits]
    credit = terms_of("cerebras").credit
    assert credit is not None and credit.words == "$5 for 30 days"


def test_a_filled_in_part_is_one_part() -> None:
    known = known_providers()["cloudflare"]
    address = known.address({"CLOUDFLARE_ACCOUNT_ID": "../../evil?x#"})
    assert address.endswith("/accounts/..%2F..%2Fevil%3Fx%23/ai/v1")
