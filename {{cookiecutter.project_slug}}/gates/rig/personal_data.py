"""One value of each kind of personal data, and a text that only looks as if it held some."""

# Valid by their check digits, and of nobody.
PERSONAL = {
    "email": "ada.lovelace@mail.rig.test", "iban": "DE89370400440532013000", "card": "4111 1111 1111 1111",
    "ssn": "536-90-4399", "phone": "+49 30 901820", "ip": "203.0.113.77", "secret": "sk-proj-" + "a1B2c3D4" * 5,
}  # fmt: skip
HARMLESS = "Order 4532-1122 of 2026-11-23 10:45, version 1.2.3, 1,234,567.89 EUR, ISBN 978-3-16-148410-0."
