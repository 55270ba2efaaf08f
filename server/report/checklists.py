"""Items of TRIPOD+AI and CLAIM: the section of the report that answers each, or the study team.

Sources: Collins et al. 2024, BMJ 385:e078378 (TRIPOD+AI); Tejani et al. 2024, Radiology: Artificial
Intelligence 6:e240300 (CLAIM, 2024 update). Items are shortened; the sources have the full wording.
"""

from dataclasses import dataclass

TEAM = "study team"
"""The report does not answer the item; the authors of the study do."""


@dataclass(frozen=True)
class Item:
    """A checklist item. `where`: section of the report that answers it, or `TEAM`."""

    number: str
    about: str
    where: str = TEAM


TRIPOD_AI = (
    Item("1", "title"),
    Item("2", "abstract"),
    Item("3a", "health care context and rationale"),
    Item("3b", "target population, purpose, users"),
    Item("3c", "known health inequalities"),
    Item("4", "objectives"),
    Item("5a", "sources of data", "Who took part; their origin: study team"),
    Item("5b", "dates of data"),
    Item("6a", "setting, number and location of centres", "Who took part; location: study team"),
    Item("6b", "eligibility"),
    Item("6c", "treatments"),
    Item("7", "data preparation", "Settings (input, augmentation); site rules: study team"),
    Item("8a", "outcome, time, how assessed"),
    Item("8b", "outcome assessors"),
    Item("8c", "blinding of outcome assessment"),
    Item("9a", "choice of predictors", "Settings: the radiograph alone"),
    Item("9b", "definition of predictors", "Settings (input)"),
    Item("9c", "blinding of predictor assessment"),
    Item("10", "sample size", "Who took part, with what the numbers are worth"),
    Item("11", "missing data", "Who took part (files set aside); labels: study team"),
    Item("12a", "use and partition of the data", "Settings (evaluation)"),
    Item("12b", "handling of predictors", "Settings (input, augmentation)"),
    Item("12c", "type of model, building steps", "Settings (model, recipe, federation)"),
    Item("12d", "heterogeneity between centres", "Models and sites; Other hospitals"),
    Item("12e", "measures of performance", "How to read the figures"),
    Item("12f", "updating of the model", "not done"),
    Item("12g", "how predictions are calculated", "Provenance; model.safetensors"),
    Item("13", "class imbalance", "Settings (balanced sampling), Calibration"),
    Item("14", "fairness", "Groups of patients, where the plan names any"),
    Item("15", "output of the model", "Calibration; At the common threshold"),
    Item("16", "training against evaluation data", "Who took part"),
    Item("17", "ethical approval"),
    Item("18a", "funding"),
    Item("18b", "conflicts of interest"),
    Item("18c", "protocol", "Settings: the plan and its hash"),
    Item("18d", "registration"),
    Item("18e", "data sharing", "no data were shared"),
    Item("18f", "code sharing", "Provenance (versions)"),
    Item("19", "patient and public involvement"),
    Item("20a", "flow of participants", "Who took part; exclusions: study team"),
    Item("20b", "characteristics of participants"),
    Item("20c", "development against evaluation", "Who took part"),
    Item("21", "participants and events in each analysis", "Who took part; Models and sites"),
    Item("22", "full specification of the model", "Settings; Provenance; model.safetensors"),
    Item("23a", "performance with intervals, subgroups", "each outcome"),
    Item("23b", "heterogeneity in performance", "Models and sites; Other hospitals"),
    Item("24", "results of updating", "not done"),
    Item("25", "interpretation"),
    Item("26", "limitations", "Limits; of the study: study team"),
    Item("27a", "poor or missing input in use"),
    Item("27b", "expertise of users"),
    Item("27c", "next steps"),
)

CLAIM = (
    Item("1–2", "title and abstract"),
    Item("3–4", "background and objectives"),
    Item("5–6", "design and goal", "Settings: the plan and its hash; the rest: study team"),
    Item("7–8", "sources of data, eligibility", "Who took part; eligibility: study team"),
    Item("9–10", "preprocessing, selection of data", "Settings; Who took part (files set aside)"),
    Item("11", "de-identification", "images and identities stayed at the sites"),
    Item("12", "missing data", "Who took part (files set aside); labels: study team"),
    Item("13", "image acquisition"),
    Item("14–18", "reference standard and its readers"),
    Item("19–20", "partitions and their level", "Settings (evaluation): by patient"),
    Item("21", "sample size", "Who took part, with what the numbers are worth"),
    Item("22–24", "model, software, initial weights", "Settings; Provenance"),
    Item("25–27", "training, selection, ensembling", "Settings (recipe); Provenance (mixture)"),
    Item("28–29", "metrics and their uncertainty", "How to read the figures"),
    Item("30", "robustness", "Groups of patients; Other hospitals"),
    Item("31", "explainability", "at the sites: fedrad-site explain"),
    Item("32–33", "internal and external testing", "Models and sites; sites held out, if any"),
    Item("34", "registration"),
    Item("35–36", "flow of participants, demographics", "Who took part; the rest: study team"),
    Item("37–38", "performance and precision", "each outcome"),
    Item("39", "failure analysis", "at the sites; otherwise study team"),
    Item("40–41", "limitations and implications", "Limits; of the study: study team"),
    Item("42–44", "protocol, availability, funding", "Settings; the rest: study team"),
)
