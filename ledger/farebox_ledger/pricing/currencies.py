"""The codes of the world's currencies (ISO 4217, active codes of countries, 2026); amounts are never converted."""

from __future__ import annotations

from typing import Final

from farebox_ledger.errors import InvalidInput

_CODES: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG
    HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL
    MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR
    RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD
    TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""

CURRENCIES: Final = frozenset(_CODES.split())


def checked_currency(code: str) -> str:
    """Answer a currency code that ISO 4217 lists.

    Raises:
        InvalidInput: it lists no such code; lower case is another code.
    """
    if code not in CURRENCIES:
        cure = f"; did you mean {code.upper()}?" if code.upper() in CURRENCIES else " such as USD or EUR"
        raise InvalidInput("currency", f"expected a code of ISO 4217, got {code[:16]!r}{cure}")
    return code
