//! The methods under the contract, with typical keys.

use rslad_distill::{Method, methods};

/// A method with typical keys.
pub struct Case {
    pub method: &'static str,
    pub ascends: Ascends,
    /// Values outside their key's domain, and what is said of them.
    pub refuses: &'static [(&'static str, &'static str)],
}

/// What the inner maximization ascends, as an expression.
pub enum Ascends {
    Nothing,
    CrossEntropy,
    KlFrom(&'static str),
    /// KL(T || S) of the logits of both side by side.
    Disagreement,
}

pub const CASES: &[Case] = &[
    Case { method: "name = 'natural'", ascends: Ascends::Nothing, refuses: &[] },
    Case { method: "name = 'sat'", ascends: Ascends::CrossEntropy, refuses: &[] },
    Case {
        method: "name = 'trades'\nbeta = 6.0",
        ascends: Ascends::KlFrom("s_eval"),
        refuses: &[
            ("beta = -1", "`method.beta` is -1, expected 0 to 1000"),
            ("beta = nan", "`method.beta` is NaN, expected 0 to 1000"),
            ("beta = '6'", "`method.beta` is \"6\", expected a number, such as "),
        ],
    },
    Case {
        method: "name = 'mart'\nbeta = 5.0",
        ascends: Ascends::CrossEntropy,
        refuses: &[
            ("beta = 1e4", "`method.beta` is 10000, expected 0 to 1000"),
            ("beta = true", "`method.beta` is true, expected a number, such as "),
        ],
    },
    Case {
        method: "name = 'ard'\nalpha = 0.9\ntau = 30.0\nkl_scale = 0.1",
        ascends: Ascends::CrossEntropy,
        refuses: &[
            ("alpha = 1.1", "`method.alpha` is 1.1, expected 0 to 1"),
            ("tau = 0", "`method.tau` is 0, expected 0.001 to 1000"),
            ("kl_scale = inf", "`method.kl_scale` is inf, expected 0.000001 to 1000000"),
        ],
    },
    Case {
        method: "name = 'iad'\nalpha = 0.7\nbeta = 0.5\ntau = 2.0\nkl_scale = 1.0\nbegin = 8\n\
                 weighting = 'paper'\nforwards = 'minimal'",
        ascends: Ascends::CrossEntropy,
        refuses: &[
            ("beta = -0.1", "`method.beta` is -0.1, expected 0 to 100"),
            ("begin = -1", "`method.begin` is -1, expected a whole number from 0 to 2^63 - 1, such as "),
            ("begin = 1.5", "`method.begin` is 1.5, expected a whole number from 0 to 2^63 - 1, such as "),
            ("weighting = 'code'", "`method.weighting` is \"code\", expected `paper` or `released`"),
            ("forwards = 3", "`method.forwards` is 3, expected"),
        ],
    },
    Case {
        method: "name = 'iad'\nalpha = 1.0\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 10\n\
                 weighting = 'released'\nforwards = 'released'",
        ascends: Ascends::CrossEntropy,
        refuses: &[],
    },
    Case {
        method: "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 0.1",
        ascends: Ascends::KlFrom("t_nat"),
        refuses: &[
            ("alpha = -0.5", "`method.alpha` is -0.5, expected 0 to 1"),
            ("kl_scale = 0", "`method.kl_scale` is 0, expected 0.000001 to 1000000"),
            ("kl_scale = [1]", "`method.kl_scale` is [1], expected a number, such as "),
        ],
    },
    Case {
        method: "name = 'iad2'\nalpha1 = 0.5\nalpha2 = 0.25\nbeta = 0.1\ntau = 2.0\nkl_scale = 1.0\nbegin = 8",
        ascends: Ascends::CrossEntropy,
        refuses: &[
            ("alpha1 = 1.5", "`method.alpha1` is 1.5, expected 0 to 1"),
            ("alpha2 = 0.6", "`method.alpha2` is 0.6, expected 0 to 0.5"),
            ("begin = -1", "`method.begin` is -1, expected a whole number from 0 to 2^63 - 1, such as "),
        ],
    },
    Case {
        method: "name = 'label_slots'\ninner = 'teacher'\nouter_adv = 'hard'\nouter_nat = 'natural_teacher'\n\
                 alpha = 0.8333333333333334\nkl_scale = 0.1",
        ascends: Ascends::KlFrom("t_nat"),
        refuses: &[
            (
                "inner = 'soft'",
                "`method.inner` is \"soft\", expected one of `hard`, `student`, `natural_teacher`, `teacher`",
            ),
            ("alpha = 2", "`method.alpha` is 2, expected 0 to 1"),
            ("kl_scale = -1", "`method.kl_scale` is -1, expected 0.000001 to 1000000"),
            (
                "outer_nat = 'student'\nalpha = 0.0",
                "`method.alpha` is 0, expected above 0 with `outer_nat = \"student\"`",
            ),
        ],
    },
    Case {
        method: "name = 'label_slots'\ninner = 'student'\nouter_adv = 'student'\nouter_nat = 'hard'\n\
                 alpha = 0.6\nkl_scale = 1.0",
        ascends: Ascends::KlFrom("s_eval"),
        refuses: &[],
    },
    Case {
        method: "name = 'label_slots'\ninner = 'hard'\nouter_adv = 'teacher'\nouter_nat = 'student'\n\
                 alpha = 0.6\nkl_scale = 1.0",
        ascends: Ascends::CrossEntropy,
        refuses: &[],
    },
    Case {
        method: "name = 'label_slots'\ninner = 'natural_teacher'\nouter_adv = 'natural_teacher'\n\
                 outer_nat = 'natural_teacher'\nalpha = 0.6\nkl_scale = 1.0",
        ascends: Ascends::KlFrom("st_nat"),
        refuses: &[],
    },
    Case {
        method: "name = 'adaad'\nalpha = 0.7\nkl_scale = 1.0",
        ascends: Ascends::Disagreement,
        refuses: &[
            ("alpha = 1.5", "`method.alpha` is 1.5, expected 0 to 1"),
            ("kl_scale = 0", "`method.kl_scale` is 0, expected 0.000001 to 1000000"),
        ],
    },
    Case {
        method: "name = 'igdm'\nalpha = 0.8333333333333334\nkl_scale = 1.0\nigdm_weight = 10.0",
        ascends: Ascends::KlFrom("t_nat"),
        refuses: &[
            ("igdm_weight = -1", "`method.igdm_weight` is -1, expected 0 to 1000000"),
            ("alpha = 1.5", "`method.alpha` is 1.5, expected 0 to 1"),
        ],
    },
];

impl Case {
    pub fn table(&self) -> toml::Table {
        self.method.parse().unwrap()
    }

    pub fn name(&self) -> String {
        self.table()["name"].as_str().unwrap().to_string()
    }

    pub fn build(&self) -> Box<dyn Method> {
        methods::build(&self.table()).unwrap()
    }
}
