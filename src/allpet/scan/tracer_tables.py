"""Tables of the tracers: rate constants of every tissue, their spread and their source.

A row is tissue, K1 (mL/min/mL), k2, k3, k4 (1/min), share of blood, spread, spread of k3 and source; spreads are the
standard deviations of the logarithms of K1 (which scales the tissue's uptake) and of k3 over a population.

How far the numbers are measured is said by the source, whose names are keys of `SOURCES`:

- "Phelps 1979", "Huang 1991": the rate constants themselves are published there.
- "SUV 13.0, Kurash 2020": only the SUV is. The rates are chosen so that the curve has about that SUV in the tracer's
  first frame and a plausible course to the delayed one; other rates would do the same.
- "chosen": no source that could be read gives a number; the value is what such images look like.

K1 of the brain is raised for FDG: with the 0.102 mL/min/mL of Phelps 1979, measured at the resolution of that time,
grey matter would reach SUV 5, while the cerebellum is at 8.0 ± 2.2 (Wang 2007). Urine, bile, the content of the stomach
and CSF are no tissues (`STORES`): activity flows in from plasma at K1 (clearance over the fluid's volume) and is
diluted or carried away at k2, in the same equations.
"""

from __future__ import annotations

Row = tuple[str, float, float, float, float, float, float, float, str]

GROUPS = {
    "brain": ("grey matter", "white matter", "striatum", "cerebellum", "spinal cord"),
    "glands": ("salivary gland", "submandibular gland", "lacrimal gland"),
    "throat": ("thyroid", "tonsil", "mucosa", "tongue"),
    "gut": ("stomach wall", "duodenum", "bowel", "colon"),
    "kidney": ("kidney cortex", "kidney medulla"),
    "bone": ("skull", "marrow", "cortical bone"),
    "soft": ("scalp", "fat", "visceral fat", "muscle", "mediastinum", "breast"),
    "upper abdomen": ("liver", "spleen", "pancreas", "adrenal"),
}
"""Tissues whose deviations from the population's mean go together; any other tissue varies on its own."""

STORES = ("csf", "urine", "bile", "stomach content")
"""Fluids that fill from plasma; metabolites are not followed into them."""

SOURCES = {
    "Boktor 2013": "Boktor et al., J Nucl Med 2013;54:677, abstract: n = 132, body weight, means of ROIs",
    "Brown 1998": "Brown et al., J Nucl Med 1998;39:1884, abstract: organ doses with carbidopa; kidneys 0.027, "
    "pancreas 0.020, most others 0.009 to 0.015 mGy/MBq",
    "Calabria 2016": "Calabria et al., Clin Nucl Med 2016;41:753, abstract: liver, pancreas, exocrine glands, urinary "
    "system highest",
    "Cheng 2014": "Cheng et al., PET Clin 2014;9:209, abstract: liver and most tissues fall to 2 h and 3 h, "
    "heart rises",
    "CNM 2017": "Evaluation of practical interpretation hurdles in 68Ga-PSMA PET/CT in 55 patients, Clin Nucl Med "
    "2017, issue 7, abstract: SUVmax",
    "Dhawan 2002": "Dhawan et al., J Nucl Med 2002;43:1324, abstract: striatal-to-occipital ratio; no value read",
    "Feng 1993": "Feng, Huang and Wang, Int J Biomed Comput 1993;32:95: form and parameters of the arterial curve as "
    "simulations commonly quote them, the paper itself not read: 851.1, 21.88, 20.81; 4.134, 0.1191, 0.0104",
    "Fueger 2010": "Fueger et al., J Nucl Med 2010;51:1532, abstract: n = 59, SUVmax of new gliomas, low grade 2.34 ± "
    "1.35, high grade 4.22 ± 1.30",
    "Huang 1991": "Huang et al., J Cereb Blood Flow Metab 1991;11:898, abstract: striatum K1 0.031 ± 0.006, k3 0.041 ± "
    "0.015, k4 0.004 ± 0.002, half of what enters is decarboxylated",
    "JNM 2012 S1:1090": "Biodistribution considerations on 18F-DOPA PET/CT, J Nucl Med 2012;53(S1):1090: n = 107, "
    "SUVmax at 1 h, without carbidopa; pancreas 5.67 (2.9 to 14.1), adrenal 1.92 (0.7 to 4.3)",
    "Kurash 2020": "Muchnik Kurash et al., Sci Rep 2020;10:3109, abstract: n = 80, organs SUVmean, lesions SUVmax",
    "Laffon 2011": "Laffon et al., J Nucl Med Technol 2011;39:258, abstract: liver release rate 0.0065/min, SUV within "
    "5 % of its peak from 50 to 110 min",
    "Lindholm 2013": "Lindholm et al., EJNMMI Res 2013;3:50, abstract: glucose without effect on liver, spleen, lung, "
    "blood, marrow",
    "Liu 2019": "Liu et al., Iran J Radiol 2019;16:e84881, abstract: n = 343, liver SUVmean 1.85 to 1.89 ± 0.43",
    "Mettler 2006": "Mettler and Guiberteau, Essentials of Nuclear Medicine Imaging, 5th ed. 2006, p. 375: usual "
    "maxima; liver 2.5, blood 2.3, spleen 1.9, marrow 1.0, lung 0.7",
    "Pfob 2016": "Pfob et al., Eur J Nucl Med Mol Imaging 2016, abstract: 139.8 ± 13.7 MBq of 68Ga-PSMA-11",
    "Phelps 1979": "Phelps et al., Ann Neurol 1979;6:371: rates as commonly quoted, the paper itself not read; grey "
    "0.102, 0.130, 0.062, 0.0068, white 0.054, 0.109, 0.045, 0.0058",
    "PMID 18391725": "three-phase FDG PET/CT, n = 80, abstract: malignant lesions +14.8 ± 13.1 % from 64 to 110 min",
    "PMID 31808135": "68Ga-PSMA-11 at 5 min, 1 h and 2 h, n = 63, abstract: lesions rise throughout",
    "PMC5553544": "436 FDG studies, abstract: brain SUV falls with blood glucose, liver and blood change little",
    "Ringheim 2020": "Ringheim et al., EJNMMI Res 2020;10, abstract: 68Ga-PSMA-11 is stable in blood; two tissues",
    "Spence 2004": "Spence et al., J Nucl Med 2004;45:1653, abstract: tumours gain on grey matter late, lower k4",
    "Wahl 1994": "The distribution and kinetics of OMFD in the human brain, J Cereb Blood Flow Metab 1994;14:664, "
    "abstract: distribution volume near 1, one compartment",
    "Wang 2007": "Standardized uptake value atlas, Mol Imaging Biol 2007;9:83, abstract: n = 98, SUVmean",
}
"""Short name of a source: what it is and what was read of it."""

FDG: tuple[Row, ...] = (
    ("grey matter", 0.155, 0.13, 0.062, 0.0068, 0.05, 0.12, 0.06, "k2 to k4: Phelps 1979; K1 raised, see docstring"),
    ("white matter", 0.062, 0.109, 0.045, 0.0058, 0.03, 0.12, 0.06, "k2 to k4: Phelps 1979; K1 raised, see docstring"),
    ("striatum", 0.165, 0.13, 0.064, 0.0068, 0.05, 0.12, 0.06, "chosen: slightly above grey matter"),
    ("cerebellum", 0.14, 0.13, 0.062, 0.0068, 0.05, 0.12, 0.06, "k2 to k4: Phelps 1979; SUV 8.0 ± 2.2, Wang 2007"),
    ("csf", 0.01, 0.0681, 0.00481, 0.0, 0.0, 0.2, 0.2, "chosen: SUV 0.35"),
    ("scalp", 0.05, 0.21, 0.011, 0.006, 0.03, 0.2, 0.2, "chosen: SUV 0.75"),
    ("skull", 0.05, 0.2, 0.0113, 0.006, 0.04, 0.2, 0.2, "chosen: SUV 0.8"),
    ("salivary gland", 0.2, 0.379, 0.0138, 0.006, 0.05, 0.3, 0.3, "chosen: SUV 1.8, below sublingual 3.3, Wang 2007"),
    (
        "submandibular gland",
        0.2,
        0.336,
        0.0136,
        0.006,
        0.05,
        0.3,
        0.3,
        "chosen: SUV 2.0, below sublingual 3.3, Wang 2007",
    ),
    ("lacrimal gland", 0.2, 0.379, 0.0138, 0.006, 0.05, 0.3, 0.3, "chosen: SUV 1.8"),
    ("thyroid", 0.3, 0.651, 0.0101, 0.006, 0.08, 0.3, 0.4, "chosen: SUV 1.4"),
    ("tonsil", 0.25, 0.31, 0.0213, 0.005, 0.05, 0.25, 0.3, "SUV 3.45 ± 1.4, Wang 2007"),
    ("mucosa", 0.2, 0.325, 0.018, 0.005, 0.05, 0.25, 0.3, "SUV below soft palate 2.92 ± 0.86, Wang 2007"),
    ("tongue", 0.15, 0.299, 0.0173, 0.006, 0.04, 0.25, 0.4, "chosen: SUV 1.9"),
    ("eye", 0.02, 0.121, 0.0102, 0.006, 0.02, 0.2, 0.2, "chosen: SUV 0.5"),
    ("fat", 0.015, 0.167, 0.0106, 0.006, 0.01, 0.2, 0.2, "chosen: SUV 0.28"),
    ("visceral fat", 0.03, 0.235, 0.0114, 0.006, 0.02, 0.25, 0.2, "chosen: SUV 0.42"),
    ("muscle", 0.03, 0.146, 0.0117, 0.006, 0.02, 0.15, 0.3, "chosen: SUV 0.65"),
    ("lung", 0.05, 0.564, 0.0131, 0.006, 0.16, 0.18, 0.2, "SUV below maximum 0.7, Mettler 2006"),
    ("blood", 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, "SUV 1.55 ± 0.38, Boktor 2013"),
    ("myocardium", 0.6, 0.75, 0.055, 0.002, 0.1, 0.2, 0.35, "chosen: SUV 7 if it takes up glucose; Cheng 2014"),
    ("mediastinum", 0.08, 0.233, 0.00673, 0.006, 0.25, 0.15, 0.2, "chosen: SUV 1.05, fat and vessels"),
    ("liver", 0.9, 1.17, 0.00976, 0.0065, 0.15, 0.13, 0.15, "SUV 2.17 ± 0.44, Boktor 2013; k4: Laffon 2011"),
    ("bile", 0.01, 0.0204, 0.00258, 0.0, 0.0, 0.4, 0.2, "chosen: SUV 0.85, not excreted"),
    ("spleen", 0.9, 1.22, 0.00543, 0.006, 0.2, 0.15, 0.2, "SUV below maximum 1.9, Mettler 2006"),
    ("pancreas", 0.5, 0.903, 0.00915, 0.006, 0.12, 0.2, 0.25, "chosen: SUV 1.6"),
    ("stomach wall", 0.4, 0.681, 0.0166, 0.006, 0.06, 0.3, 0.4, "chosen: SUV 2.2"),
    ("stomach content", 0.003, 0.002, 0.0, 0.0, 0.0, 0.4, 0.0, "chosen: SUV 0.4"),
    ("duodenum", 0.35, 0.649, 0.0145, 0.006, 0.06, 0.3, 0.4, "chosen: SUV 1.9"),
    ("bowel", 0.3, 0.674, 0.0148, 0.006, 0.06, 0.35, 0.5, "chosen: SUV 1.6"),
    ("colon", 0.25, 0.806, 0.0247, 0.006, 0.05, 0.35, 0.6, "chosen: SUV 1.5, wide"),
    ("kidney cortex", 0.7, 0.643, 0.00848, 0.008, 0.2, 0.2, 0.25, "chosen: SUV 2.7, with urine in transit"),
    ("kidney medulla", 0.5, 0.323, 0.00262, 0.004, 0.15, 0.3, 0.3, "chosen: SUV 3.0, with urine in transit"),
    ("urine", 0.28, 0.006, 0.0, 0.0, 0.0, 0.7, 0.0, "chosen: SUV 35, wide: hydration, voiding"),
    ("adrenal", 0.4, 0.758, 0.0103, 0.006, 0.1, 0.2, 0.3, "chosen: SUV 1.6"),
    ("marrow", 0.3, 0.823, 0.014, 0.006, 0.08, 0.18, 0.25, "chosen: SUV 1.3; maximum 1.0, Mettler 2006"),
    ("cortical bone", 0.02, 0.134, 0.0125, 0.006, 0.03, 0.2, 0.2, "chosen: SUV 0.5"),
    ("breast", 0.03, 0.177, 0.0112, 0.006, 0.03, 0.25, 0.3, "chosen: SUV 0.55"),
    ("spinal cord", 0.04, 0.109, 0.045, 0.0058, 0.03, 0.15, 0.1, "as white matter; chosen: SUV 2.0"),
    ("prostate", 0.25, 0.5, 0.0118, 0.006, 0.06, 0.2, 0.3, "chosen: SUV 1.6"),
    ("uterus", 0.25, 0.475, 0.0138, 0.006, 0.08, 0.3, 0.4, "chosen: SUV 1.8"),
    ("testis", 0.2, 0.336, 0.0212, 0.006, 0.04, 0.15, 0.15, "SUV 2.57 ± 0.56, Wang 2007"),
    ("air", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "none"),
)

DOPA: tuple[Row, ...] = (
    ("grey matter", 0.031, 0.044, 0.0, 0.0, 0.05, 0.12, 0.0, "K1: Huang 1991; chosen: K1/k2 0.7"),
    ("white matter", 0.022, 0.041, 0.0, 0.0, 0.03, 0.12, 0.0, "chosen: SUV 0.75"),
    ("striatum", 0.031, 0.041, 0.046, 0.003, 0.05, 0.12, 0.25, "within one SD of Huang 1991; k2: half is trapped"),
    ("cerebellum", 0.032, 0.046, 0.0, 0.0, 0.05, 0.12, 0.0, "K1: Huang 1991; chosen: K1/k2 0.7"),
    ("csf", 0.004, 0.012, 0.0, 0.0, 0.0, 0.2, 0.0, "chosen: SUV 0.2"),
    ("scalp", 0.03, 0.0826, 0.0147, 0.004, 0.03, 0.15, 0.2, "chosen: SUV 0.8"),
    ("skull", 0.03, 0.134, 0.0203, 0.004, 0.04, 0.15, 0.2, "chosen: SUV 0.6"),
    ("salivary gland", 0.15, 0.171, 0.0101, 0.003, 0.05, 0.25, 0.3, "chosen: SUV 1.7"),
    ("submandibular gland", 0.15, 0.171, 0.0101, 0.003, 0.05, 0.25, 0.3, "chosen: SUV 1.7"),
    ("lacrimal gland", 0.15, 0.213, 0.0106, 0.003, 0.05, 0.25, 0.3, "chosen: SUV 1.4"),
    ("thyroid", 0.2, 0.266, 0.00732, 0.003, 0.08, 0.25, 0.3, "chosen: SUV 1.3"),
    ("tonsil", 0.15, 0.405, 0.036, 0.006, 0.05, 0.2, 0.3, "chosen: SUV 1.3"),
    ("mucosa", 0.12, 0.345, 0.0351, 0.006, 0.05, 0.2, 0.3, "chosen: SUV 1.2"),
    ("tongue", 0.06, 0.16, 0.0296, 0.004, 0.04, 0.15, 0.2, "chosen: SUV 1.2"),
    ("eye", 0.02, 0.137, 0.0329, 0.004, 0.02, 0.2, 0.2, "chosen: SUV 0.5"),
    ("fat", 0.01, 0.121, 0.026, 0.004, 0.01, 0.2, 0.2, "chosen: SUV 0.25"),
    ("visceral fat", 0.02, 0.159, 0.021, 0.004, 0.02, 0.2, 0.2, "chosen: SUV 0.35"),
    ("muscle", 0.05, 0.114, 0.0219, 0.003, 0.02, 0.13, 0.2, "chosen: SUV 1.2; dose of most organs, Brown 1998"),
    ("lung", 0.06, 0.312, 0.00659, 0.004, 0.16, 0.15, 0.2, "chosen: SUV 0.42"),
    ("blood", 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, "chosen: SUV 0.93, FDOPA and OMFD"),
    ("myocardium", 0.5, 0.533, 0.00466, 0.003, 0.1, 0.15, 0.25, "chosen: SUV 1.4"),
    ("mediastinum", 0.06, 0.132, 0.00829, 0.004, 0.25, 0.13, 0.2, "chosen: SUV 0.85"),
    ("liver", 0.6, 0.477, 0.00361, 0.003, 0.15, 0.18, 0.2, "chosen: SUV 1.7; high, Calabria 2016"),
    ("bile", 0.055, 0.004, 0.0, 0.0, 0.0, 0.6, 0.0, "chosen: SUV 4.4, wide, as in JNM 2012 S1:1090"),
    ("spleen", 0.5, 0.538, 0.00409, 0.003, 0.2, 0.15, 0.2, "chosen: SUV 1.3"),
    ("pancreas", 0.4, 0.333, 0.0182, 0.003, 0.12, 0.25, 0.25, "SUV half of SUVmax 5.67, JNM 2012 S1:1090"),
    ("stomach wall", 0.25, 0.369, 0.0115, 0.003, 0.06, 0.2, 0.3, "chosen: SUV 1.4"),
    ("stomach content", 0.003, 0.002, 0.0, 0.0, 0.0, 0.4, 0.0, "chosen: SUV 0.3"),
    ("duodenum", 0.3, 0.363, 0.0215, 0.003, 0.06, 0.35, 0.3, "chosen: SUV 2.3, with bile"),
    ("bowel", 0.25, 0.369, 0.0115, 0.003, 0.06, 0.3, 0.3, "chosen: SUV 1.4"),
    ("colon", 0.15, 0.279, 0.011, 0.003, 0.05, 0.25, 0.3, "chosen: SUV 1.1"),
    ("kidney cortex", 0.7, 0.199, 0.00256, 0.006, 0.2, 0.25, 0.25, "chosen: SUV 4; dose of Brown 1998"),
    ("kidney medulla", 0.5, 0.121, 0.00112, 0.006, 0.15, 0.3, 0.25, "chosen: SUV 4.6, with urine in transit"),
    ("urine", 0.75, 0.005, 0.0, 0.0, 0.0, 0.6, 0.0, "chosen: SUV 55, main excretion in Brown 1998"),
    ("adrenal", 0.3, 0.34, 0.012, 0.003, 0.1, 0.25, 0.3, "SUV below SUVmax 1.92, JNM 2012 S1:1090"),
    ("marrow", 0.2, 0.614, 0.0257, 0.006, 0.08, 0.15, 0.2, "chosen: SUV 0.95"),
    ("cortical bone", 0.02, 0.132, 0.0244, 0.004, 0.03, 0.15, 0.2, "chosen: SUV 0.45"),
    ("breast", 0.02, 0.069, 0.0157, 0.004, 0.03, 0.2, 0.2, "chosen: SUV 0.65"),
    ("spinal cord", 0.022, 0.041, 0.0, 0.0, 0.03, 0.15, 0.0, "chosen: as white matter"),
    ("prostate", 0.15, 0.469, 0.037, 0.006, 0.06, 0.15, 0.2, "chosen: SUV 1.15"),
    ("uterus", 0.15, 0.455, 0.0381, 0.006, 0.08, 0.2, 0.2, "chosen: SUV 1.2"),
    ("testis", 0.1, 0.406, 0.0512, 0.006, 0.04, 0.15, 0.2, "chosen: SUV 1.1"),
    ("air", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "none"),
)

PSMA: tuple[Row, ...] = (
    ("grey matter", 0.001, 0.02, 0.0, 0.0, 0.05, 0.15, 0.0, "chosen: blood and a trace"),
    ("white matter", 0.0008, 0.02, 0.0, 0.0, 0.03, 0.15, 0.0, "as grey matter"),
    ("striatum", 0.001, 0.02, 0.0, 0.0, 0.05, 0.15, 0.0, "as grey matter"),
    ("cerebellum", 0.001, 0.02, 0.0, 0.0, 0.055, 0.15, 0.0, "as grey matter"),
    ("csf", 0.0004, 0.01, 0.0, 0.0, 0.0, 0.2, 0.0, "chosen: SUV 0.06"),
    ("scalp", 0.03, 0.15, 0.00193, 0.002, 0.03, 0.2, 0.2, "chosen: SUV 0.5"),
    ("skull", 0.03, 0.141, 0.00227, 0.002, 0.04, 0.2, 0.2, "chosen: SUV 0.55"),
    ("salivary gland", 0.25, 0.0604, 0.00953, 0.001, 0.05, 0.22, 0.2, "SUV 14.5, Kurash 2020"),
    ("submandibular gland", 0.25, 0.0631, 0.00954, 0.001, 0.05, 0.22, 0.2, "SUV 13.0, Kurash 2020"),
    ("lacrimal gland", 0.2, 0.0895, 0.00907, 0.001, 0.05, 0.35, 0.25, "SUV half of SUVmax 15.7 ± 7.2, CNM 2017"),
    ("thyroid", 0.2, 0.305, 0.00456, 0.003, 0.08, 0.3, 0.3, "SUV 40 % of SUVmax 4.5 ± 1.2, CNM 2017"),
    ("tonsil", 0.2, 0.147, 0.00674, 0.002, 0.05, 0.3, 0.3, "SUV 40 % of SUVmax 10.4 ± 4.3, CNM 2017"),
    ("mucosa", 0.15, 0.15, 0.00607, 0.002, 0.05, 0.3, 0.3, "SUV below SUVmax 8.4 (vocal cords), CNM 2017"),
    ("tongue", 0.1, 0.257, 0.00289, 0.002, 0.04, 0.25, 0.3, "chosen: SUV 1.0"),
    ("eye", 0.02, 0.134, 0.00298, 0.002, 0.02, 0.2, 0.2, "chosen: SUV 0.4"),
    ("fat", 0.012, 0.123, 0.00219, 0.002, 0.01, 0.2, 0.2, "chosen: SUV 0.25"),
    ("visceral fat", 0.02, 0.147, 0.00221, 0.002, 0.02, 0.2, 0.2, "chosen: SUV 0.35"),
    ("muscle", 0.03, 0.121, 0.00163, 0.002, 0.02, 0.15, 0.2, "chosen: SUV 0.6"),
    ("lung", 0.05, 0.358, 0.00138, 0.002, 0.16, 0.18, 0.2, "chosen: SUV 0.45"),
    ("blood", 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, "SUV 1.15: lesions over 13.5, Kurash 2020"),
    ("myocardium", 0.3, 0.648, 0.00133, 0.003, 0.1, 0.15, 0.2, "chosen: SUV 1.05"),
    ("mediastinum", 0.05, 0.172, 0.00168, 0.002, 0.25, 0.15, 0.2, "chosen: SUV 0.8"),
    ("liver", 0.5, 0.288, 0.00728, 0.004, 0.15, 0.2, 0.15, "SUV 5: lesions over 2.7, Kurash 2020"),
    ("bile", 0.032, 0.003, 0.0, 0.0, 0.0, 0.6, 0.0, "chosen: SUV 6, wide"),
    ("spleen", 0.6, 0.207, 0.0053, 0.004, 0.2, 0.28, 0.2, "SUV 65 % of SUVmax 10.9 ± 3.9, CNM 2017"),
    ("pancreas", 0.3, 0.326, 0.00293, 0.003, 0.12, 0.2, 0.25, "chosen: SUV 2.2"),
    ("stomach wall", 0.25, 0.245, 0.00567, 0.002, 0.06, 0.3, 0.3, "chosen: SUV 3.0"),
    ("stomach content", 0.002, 0.002, 0.0, 0.0, 0.0, 0.4, 0.0, "chosen: SUV 0.3"),
    ("duodenum", 0.35, 0.112, 0.00775, 0.001, 0.06, 0.35, 0.25, "SUV 57 % of SUVmax 17.6 ± 8.9, CNM 2017"),
    ("bowel", 0.3, 0.191, 0.0071, 0.001, 0.06, 0.4, 0.3, "chosen: SUV 5, between jejunum and ileum"),
    ("colon", 0.2, 0.265, 0.00837, 0.002, 0.05, 0.4, 0.35, "SUV 25 % of SUVmax 10.6 ± 9.2, CNM 2017"),
    ("kidney cortex", 1.3, 0.0865, 0.01, 0.0006, 0.2, 0.22, 0.15, "SUV of whole kidney 41.7, Kurash 2020"),
    ("kidney medulla", 0.7, 0.0668, 0.00845, 0.0006, 0.15, 0.25, 0.2, "chosen: two thirds of the cortex"),
    ("urine", 0.2, 0.008, 0.0, 0.0, 0.0, 0.7, 0.0, "chosen: SUV 32, wide: hydration, voiding"),
    ("adrenal", 0.3, 0.243, 0.00409, 0.002, 0.1, 0.25, 0.25, "chosen: SUV 3.2"),
    ("marrow", 0.1, 0.283, 0.00169, 0.002, 0.08, 0.18, 0.2, "chosen: SUV 0.85"),
    ("cortical bone", 0.015, 0.0966, 0.00267, 0.002, 0.03, 0.2, 0.2, "chosen: SUV 0.42"),
    ("breast", 0.02, 0.108, 0.0023, 0.002, 0.03, 0.2, 0.2, "chosen: SUV 0.48"),
    ("spinal cord", 0.001, 0.02, 0.0, 0.0, 0.05, 0.15, 0.0, "as grey matter"),
    ("prostate", 0.15, 0.198, 0.00695, 0.002, 0.06, 0.25, 0.3, "SUV 2.4, Kurash 2020"),
    ("uterus", 0.12, 0.306, 0.00196, 0.002, 0.08, 0.2, 0.2, "chosen: SUV 0.95"),
    ("testis", 0.08, 0.21, 0.00243, 0.002, 0.04, 0.15, 0.2, "chosen: SUV 0.95"),
    ("air", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "none"),
)

LESIONS: dict[str, Row] = {
    "FDG": (
        "hot lesion",
        0.3,
        0.254,
        0.0299,
        0.004,
        0.06,
        0.35,
        0.45,
        "chosen: SUV 6; +15 ± 13 % to 110 min, PMID 18391725",
    ),
    "DOPA": ("hot lesion", 0.12, 0.191, 0.0863, 0.006, 0.06, 0.35, 0.3, "SUVmax 2.3 to 4.2 of gliomas, Fueger 2010"),
    "PSMA": (
        "hot lesion",
        0.15,
        0.0569,
        0.0136,
        0.0005,
        0.06,
        0.4,
        0.5,
        "SUV below 11.3 to 15.9, Kurash 2020; PMID 31808135",
    ),
}
"""Kinetics of a hot lesion by tracer."""

TISSUES = tuple(row[0] for row in FDG)
"""Names of the tissues, the same for every tracer."""
