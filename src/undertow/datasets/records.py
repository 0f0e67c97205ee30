"""What is known about each data set: all fields of a GroupedData but its rows."""

from __future__ import annotations

from typing import Any

_JITTER = "natural log of a measure of the variation of the voice's frequency"
_SHIMMER = "natural log of a measure of the variation of the voice's amplitude"

RECORDS: dict[str, dict[str, Any]] = {
    "mathachieve": dict(
        task="school",
        target="MathAch",
        units={
            "school": "number of the school",
            "SES": "socio-economic status of the pupil, standardised scale",
            "minority": "1 if the pupil belongs to a minority, else 0",
            "female": "1 if the pupil is female, else 0",
            "MEANSES": "mean SES of the school",
            "catholic": "1 if the school is Catholic, 0 if public",
            "Size": "pupils in the school",
            "PRACAD": "share of pupils on the academic track",
            "DISCLIM": "discrimination climate of the school, scale",
            "HIMINTY": "1 if more than 40 % of the school's pupils belong to a minority, else 0",
            "MathAch": "score in mathematics achievement",
        },
        source=(
            "High School and Beyond, 1982, US National Center for Education Statistics; as tables MathAchieve and "
            "MathAchSchool of the R package nlme, joined by school"
        ),
        licence="public domain (US government)",
        description="Mathematics achievement of pupils; a task is one school. All rows; yes/no columns became 0/1.",
    ),
    "radon": dict(
        task="county",
        target="log.radon",
        units={
            "county": "number of the county in Minnesota",
            "first_floor": "1 if measured on the first floor, 0 in the basement",
            "log_uranium": "natural log of the county's uranium in soil, ppm",
            "log.radon": "natural log of radon activity, pCi/L",
        },
        source=(
            "State Residential Radon Survey, US Environmental Protection Agency; as table radon of the R package "
            "HLMdiag"
        ),
        licence="public domain (US government)",
        description=(
            "Radon in homes; a task is one county, some with a single home. All rows. The columns that the R package "
            "names basement and uranium are named first_floor and log_uranium here, after what they hold."
        ),
    ),
    "gapminder": dict(
        task="country",
        target="lifeExp",
        units={
            "country": "name of the country",
            "year": "calendar year",
            "log_pop": "natural log of the population",
            "log_gdp": "natural log of gross domestic product per head, inflation-adjusted US dollars",
            "lifeExp": "life expectancy at birth, years",
        },
        source="Gapminder.org, as table gapminder of the R package gapminder (J. Bryan)",
        licence="CC BY 4.0, Gapminder.org",
        description=(
            "Life expectancy by year, population and income; a task is one country, 12 years each. All rows; "
            "population and income are logged, the continent is left out."
        ),
    ),
    "parkinsons": dict(
        task="patient",
        target="motor_UPDRS",
        units={
            "patient": "number of the patient",
            "test_time": "days since recruitment",
            "log_Jitter(%)": _JITTER,
            "log_Jitter(Abs)": _JITTER,
            "log_Jitter:RAP": _JITTER,
            "log_Jitter:PPQ5": _JITTER,
            "log_Jitter:DDP": _JITTER,
            "log_Shimmer": _SHIMMER,
            "log_Shimmer(dB)": _SHIMMER,
            "log_Shimmer:APQ3": _SHIMMER,
            "log_Shimmer:APQ5": _SHIMMER,
            "log_Shimmer:APQ11": _SHIMMER,
            "log_Shimmer:DDA": _SHIMMER,
            "log_NHR": "natural log of the ratio of noise to tonal components",
            "HNR": "ratio of tonal components to noise, dB",
            "RPDE": "recurrence period density entropy, a measure of dynamical complexity",
            "DFA": "detrended fluctuation analysis, fractal scaling exponent",
            "PPE": "pitch period entropy, a measure of the variation of frequency",
            "motor_UPDRS": "motor score of the Unified Parkinson's Disease Rating Scale, interpolated to the day",
        },
        source=(
            "Parkinsons Telemonitoring, UCI Machine Learning Repository, data set 189; Tsanas, Little, McSharry and "
            "Ramig, IEEE Transactions on Biomedical Engineering 57(4), 884-893, 2010 (online 2009)"
        ),
        licence="CC BY 4.0, Tsanas and Little, UCI 189",
        description=(
            "Symptom score from time and 16 voice measures; a task is one patient. A cut: of each patient's "
            "recordings, in the order of the source, the first, third, fifth and so on are kept (2,946 of 5,875). "
            "Jitter, shimmer and NHR are logged; age, sex and total_UPDRS are left out."
        ),
    ),
}
