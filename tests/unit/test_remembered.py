"""Results that an object remembers: few, and gone with the object."""

import gc
import weakref

from service.base.remembered import Remembered
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.forecast.forecaster import Forecaster
from service.forecast.stakes import Stakes


def test_what_is_remembered_is_made_once_and_the_oldest_forgotten() -> None:
    """At most so many results; one that was forgotten is made anew."""
    made: list[int] = []

    def double(key: int) -> int:
        made.append(key)
        return 2 * key

    remembered: Remembered[int, int] = Remembered(2)
    assert [remembered.get(key, double) for key in (1, 2, 1, 3, 2, 1)] == [2, 4, 2, 6, 4, 2]
    assert (made, len(remembered)) == ([1, 2, 3, 1], 2)


def test_a_forecast_goes_when_nobody_has_it() -> None:
    """It holds tens of kilobytes, and does not wait for garbage collection, which a service has seldom."""
    catalog = load_catalog(DEFAULT_CATALOG)
    forecaster = Forecaster(catalog, kept=0)
    gc.collect()
    gc.disable()
    try:
        forecast = forecaster.forecast(
            catalog.candidates,
            labels={},
            minutes=30.0,
            minutes_source="text",
            attempts=(),
            kinds=dict.fromkeys(catalog.kind_ids, 0.2),
        )
        forecast.plan(Stakes(value_usd=3.0), catalog.candidates[0])
        assert forecast.explain()
        gone = weakref.ref(forecast)
        del forecast
        assert gone() is None
    finally:
        gc.enable()
