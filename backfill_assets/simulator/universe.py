"""The known tickers: names, venues and trading profiles.

Names, venues and first days of trading are public listing data. Prices and volumes are rounded magnitudes of mid-2024, not
market data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import msgspec

from backfill_assets.simulator.noise import seed
from backfill_assets.simulator.sessions import Market, market_of

STOCK_HISTORY_STARTS = date(2003, 9, 10)
"""The vendor's first day of US stock aggregates (massive.com/knowledge-base)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The trading profile of a ticker.

    price    US dollars on 2024-06-28, in today's shares
    volume   shares or coins per day on average
    first    first day of trading
    regular, extended   share of the minutes with a trade, within and outside the regular session
    """

    ticker: str
    name: str
    venue: str
    kind: str
    price: float
    volume: float
    first: date
    regular: float
    extended: float

    @property
    def market(self) -> Market:
        """The market of the ticker."""
        return market_of(self.ticker)


class _Row(msgspec.Struct, array_like=True, frozen=True):
    ticker: str
    venue: str
    kind: str
    price: float
    millions: float
    first: date
    name: str


# ticker|venue|type|price|millions of shares a day|first day|name
_STOCKS = """
AAPL|XNAS|CS|211|60|1980-12-12|Apple Inc.
ABBV|XNYS|CS|172|5.5|2013-01-02|AbbVie Inc.
ABT|XNYS|CS|104|6|1929-03-01|Abbott Laboratories
ADBE|XNAS|CS|556|3.5|1986-08-13|Adobe Inc.
AMD|XNAS|CS|162|55|1979-09-27|Advanced Micro Devices, Inc.
AMZN|XNAS|CS|193|42|1997-05-15|Amazon.com, Inc.
AVGO|XNAS|CS|161|30|2009-08-06|Broadcom Inc.
BA|XNYS|CS|182|7|1962-01-02|The Boeing Company
BAC|XNYS|CS|40|35|1978-01-03|Bank of America Corporation
BRK.B|XNYS|CS|407|3.6|1996-05-09|Berkshire Hathaway Inc. Class B
BTC|ARCX|ETF|5.6|6|2024-07-31|Grayscale Bitcoin Mini Trust ETF
C|XNYS|CS|63|14|1977-01-03|Citigroup Inc.
CAT|XNYS|CS|333|3|1929-12-02|Caterpillar Inc.
COIN|XNAS|CS|222|9|2021-04-14|Coinbase Global, Inc.
COST|XNAS|CS|850|2|1985-12-05|Costco Wholesale Corporation
CRM|XNYS|CS|257|7|2004-06-23|Salesforce, Inc.
CSCO|XNAS|CS|47.5|19|1990-02-16|Cisco Systems, Inc.
CVX|XNYS|CS|156|8|1921-06-24|Chevron Corporation
DIA|ARCX|ETF|391|3.5|1998-01-20|SPDR Dow Jones Industrial Average ETF Trust
DIS|XNYS|CS|99|10|1957-11-12|The Walt Disney Company
ETH|ARCX|ETF|3.2|4|2024-07-23|Grayscale Ethereum Mini Trust ETF
F|XNYS|CS|12.5|50|1956-03-07|Ford Motor Company
GE|XNYS|CS|159|6|1962-01-02|GE Aerospace
GLD|ARCX|ETF|215|6.5|2004-11-18|SPDR Gold Shares
GOOG|XNAS|CS|183|18|2014-03-27|Alphabet Inc. Class C
GOOGL|XNAS|CS|182|25|2004-08-19|Alphabet Inc. Class A
GS|XNYS|CS|452|2.3|1999-05-04|The Goldman Sachs Group, Inc.
HD|XNYS|CS|344|3.5|1981-09-22|The Home Depot, Inc.
IBM|XNYS|CS|173|3.7|1915-11-11|International Business Machines Corporation
INTC|XNAS|CS|31|45|1971-10-13|Intel Corporation
IWM|ARCX|ETF|203|28|2000-05-26|iShares Russell 2000 ETF
JNJ|XNYS|CS|146|7.5|1944-09-25|Johnson & Johnson
JPM|XNYS|CS|202|9|1969-03-05|JPMorgan Chase & Co.
KO|XNYS|CS|64|13|1919-09-05|The Coca-Cola Company
LLY|XNYS|CS|905|3|1952-01-02|Eli Lilly and Company
MA|XNYS|CS|441|2.6|2006-05-25|Mastercard Incorporated
MCD|XNYS|CS|255|3.3|1966-07-05|McDonald's Corporation
META|XNAS|CS|504|14|2012-05-18|Meta Platforms, Inc.
MRK|XNYS|CS|124|8.5|1946-05-15|Merck & Co., Inc.
MSFT|XNAS|CS|447|19|1986-03-13|Microsoft Corporation
NFLX|XNAS|CS|675|3|2002-05-23|Netflix, Inc.
NKE|XNYS|CS|75|12|1980-12-02|NIKE, Inc.
NVDA|XNAS|CS|124|300|1999-01-22|NVIDIA Corporation
ORCL|XNYS|CS|141|8|1986-03-12|Oracle Corporation
PEP|XNAS|CS|165|5.5|1972-06-01|PepsiCo, Inc.
PFE|XNYS|CS|28|33|1944-01-17|Pfizer Inc.
PG|XNYS|CS|165|6.5|1950-03-22|The Procter & Gamble Company
PLTR|XNAS|CS|25|45|2020-09-30|Palantir Technologies Inc.
PYPL|XNAS|CS|58|13|2015-07-06|PayPal Holdings, Inc.
QCOM|XNAS|CS|199|9|1991-12-13|QUALCOMM Incorporated
QQQ|XNAS|ETF|479|36|1999-03-10|Invesco QQQ Trust
SHOP|XNAS|CS|66|9|2015-05-21|Shopify Inc.
SPY|ARCX|ETF|544|48|1993-01-29|SPDR S&P 500 ETF Trust
T|XNYS|CS|19|34|1983-11-21|AT&T Inc.
TLT|XNAS|ETF|92|38|2002-07-26|iShares 20+ Year Treasury Bond ETF
TSLA|XNAS|CS|198|80|2010-06-29|Tesla, Inc.
TXN|XNAS|CS|195|5|1953-10-01|Texas Instruments Incorporated
UBER|XNYS|CS|73|18|2019-05-10|Uber Technologies, Inc.
UNH|XNYS|CS|509|3.6|1984-10-17|UnitedHealth Group Incorporated
V|XNYS|CS|262|7|2008-03-19|Visa Inc.
VOO|ARCX|ETF|500|5|2010-09-09|Vanguard S&P 500 ETF
WFC|XNYS|CS|59|16|1962-01-02|Wells Fargo & Company
WMT|XNYS|CS|68|16|1972-08-25|Walmart Inc.
XOM|XNYS|CS|115|15|1928-01-03|Exxon Mobil Corporation
"""

# ticker|venue|type|price|millions of coins a day|first day|name
_COINS = """
X:ADAUSD|||0.39|90|2018-04-01|Cardano - United States dollar
X:AVAXUSD|||28|1.6|2021-09-30|Avalanche - United States dollar
X:BCHUSD|||390|0.06|2017-12-20|Bitcoin Cash - United States dollar
X:BTCUSD|||61000|0.02|2014-12-01|Bitcoin - United States dollar
X:DOGEUSD|||0.122|450|2021-06-03|Dogecoin - United States dollar
X:DOTUSD|||6.2|2.1|2021-06-16|Polkadot - United States dollar
X:ETCUSD|||23|0.3|2018-08-16|Ethereum Classic - United States dollar
X:ETHUSD|||3400|0.18|2016-05-18|Ethereum - United States dollar
X:LINKUSD|||13.9|1.4|2019-06-27|Chainlink - United States dollar
X:LTCUSD|||74|0.45|2016-08-17|Litecoin - United States dollar
X:MATICUSD|||0.56|25|2021-03-11|Polygon - United States dollar
X:SHIBUSD|||0.0000171|900000|2021-09-09|Shiba Inu - United States dollar
X:SOLUSD|||142|3.1|2021-06-17|Solana - United States dollar
X:UNIUSD|||9.1|0.9|2020-09-17|Uniswap - United States dollar
X:XRPUSD|||0.475|110|2018-05-01|XRP - United States dollar
"""


def _read(table: str) -> dict[str, _Row]:
    rows = (msgspec.convert(line.split("|"), _Row, strict=False) for line in table.strip().splitlines())
    return {row.ticker: row for row in rows}


_TABLE = _read(_STOCKS) | _read(_COINS)

DEFAULT_KNOWN: tuple[str, ...] = tuple(_TABLE)
"""The default tickers: 64 stocks and funds, 15 coins."""


@lru_cache(maxsize=4096)
def profile(ticker: str) -> Profile:
    """Return the profile of a ticker. One outside the table gets a fixed, thinly traded profile."""
    row = _TABLE.get(ticker)
    if row is None:
        return _invented(ticker)
    volume = row.millions * 1e6
    if market_of(ticker) == "crypto":
        return Profile(ticker, row.name, "", "", row.price, volume, row.first, 0.998, 0.998)
    extended = min(0.97, max(0.85, 0.85 + 0.0675 * math.log10(row.millions)))
    return Profile(ticker, row.name, row.venue, row.kind, row.price, volume, row.first, 1.0, extended)


def _invented(ticker: str) -> Profile:
    a, b = divmod(seed("profile", ticker), 1 << 32)
    luck, more = (a & 0xFFFF) / 65536, (b & 0xFFFF) / 65536
    coin = market_of(ticker) == "crypto"
    return Profile(
        ticker,
        f"{ticker.removeprefix('X:')} {'coin' if coin else 'Corporation'}",
        "" if coin else "XNAS",
        "" if coin else "CS",
        round(2 + 150 * luck * luck, 2),
        round(2e5 + 4e6 * more),
        date(2018, 1, 2) if coin else date(1999, 1, 4),
        0.97 if coin else round(0.90 + 0.09 * more, 3),
        0.97 if coin else round(0.15 + 0.5 * more, 3),
    )
