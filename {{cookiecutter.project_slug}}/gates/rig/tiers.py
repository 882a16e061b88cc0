"""A catalogue of models with a tier each, whose prices tell them apart."""

PRICES = {"small": "0.01", "standard": "0.10", "large": "1.00"}  # USD per million tokens, of input and output


def priced_tiers(resilience: str) -> str:
    """The catalogue, with these lines as its section on resilience."""
    lines = [
        f'{tier} = {{ model = "probe-{tier}", input_usd_per_mtok = "{price}", output_usd_per_mtok = "{price}" }}'
        for tier, price in PRICES.items()
    ]
    return f"[resilience]\n{resilience}\n[providers.openai]\n" + "\n".join(lines) + "\n"
