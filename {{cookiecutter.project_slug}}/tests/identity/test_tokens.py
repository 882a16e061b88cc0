from app.identity import tokens


def test_a_key_names_its_environment_and_keeps_no_secret() -> None:
    new = tokens.generate("production")
    assert new.token.startswith(f"svc_production_{new.prefix}_")
    secret = new.token.split("_", 3)[3]
    assert secret not in new.secret_hash
    assert tokens.parse(new.token) == (new.prefix, secret)
    assert tokens.hash_secret(secret) == new.secret_hash


def test_what_has_not_the_form_of_a_key_is_none() -> None:
    good = tokens.generate("test").token
    for bad in ("", "x", good[:-1], good + "A", good.upper(), good.replace("svc", "abc"), " " + good, good + "\n"):
        assert tokens.parse(bad) is None


def test_keys_do_not_repeat() -> None:
    assert len({tokens.generate("test").token for _ in range(1000)}) == 1000
