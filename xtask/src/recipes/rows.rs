//! The recipes that are composed: names, sentences, parts.

use super::Recipe;

/// A data set of the paper.
#[derive(Clone, Copy)]
struct Data {
    name: &'static str,
    title: &'static str,
    classes: usize,
}

const DATA: [Data; 2] = [
    Data { name: "cifar10", title: "CIFAR-10", classes: 10 },
    Data { name: "cifar100", title: "CIFAR-100", classes: 100 },
];

/// A student of the paper: its name in files and in sentences.
const STUDENTS: [(&str, &str); 2] = [("resnet18", "ResNet-18"), ("mobilenet_v2", "MobileNetV2")];

/// A method as one recipe of it is written, from `[method]` to `[select]`.
struct Row {
    name: &'static str,
    /// What is trained, and how; the student and the data are added.
    about: &'static str,
    data: &'static str,
    /// The parts before `[method]` that bring teachers.
    teachers: &'static [&'static str],
    /// The parts from `[method]` to `[inner]`.
    method: &'static [&'static str],
    /// The parts after it.
    schedule: [&'static str; 3],
    /// The code that `{code}` and the optimizer's constants refer to.
    code: &'static str,
}

const ARD_CODE: &str = "github.com/goldblum/AdversariallyRobustDistillation at 779ade3, main.py";
const IAD_CODE: &str = "github.com/ZFancy/IAD at a8091a8, IAD-I.py";
const IAD2_CODE: &str = "github.com/ZFancy/IAD at a8091a8, IAD-II.py";
const RSLAD_CODE: &str = "the RSLAD scripts";
const TRADES_CODE: &str = "train_trades_cifar10.py";
const SAT_CODE: &str = "cifar10_challenge, config.json";

const LONG: [&str; 3] = ["optim/usual", "schedule/rslad", "select/paper"];
const ONE: &[&str] = &["teacher/{set}"];
const TWO: &[&str] = &["teacher/{set}", "teacher/natural"];

/// The rows of the paper's tables, then what came after, for each student and each data set.
#[rustfmt::skip] // one row, one line or two
const ROWS: &[Row] = &[
    Row { name: "natural", about: "natural training, 300 epochs as RSLAD", data: "paper", teachers: &[],
          method: &["method/natural"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "sat-own", about: "SAT on its own schedule", data: "paper", teachers: &[],
          method: &["method/sat", "inner/pgd"], schedule: ["optim/usual", "schedule/sat-own", "select/paper"], code: SAT_CODE },
    Row { name: "sat-300", about: "SAT, 300 epochs as RSLAD", data: "paper", teachers: &[],
          method: &["method/sat", "inner/pgd"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "trades-own", about: "TRADES with its own attack and schedule", data: "paper", teachers: &[],
          method: &["method/trades", "inner/trades-own"], schedule: ["optim/usual", "schedule/trades-own", "select/paper"], code: TRADES_CODE },
    Row { name: "trades-300", about: "TRADES, 300 epochs and the radius of RSLAD", data: "paper", teachers: &[],
          method: &["method/trades", "inner/trades"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "ard-paper-own", about: "ARD as printed, on its own schedule", data: "ard", teachers: ONE,
          method: &["method/ard-paper", "inner/ard-paper"], schedule: ["optim/usual", "schedule/ard-paper", "select/paper"], code: ARD_CODE },
    Row { name: "ard-paper-300", about: "ARD as printed, 300 epochs as RSLAD", data: "paper", teachers: ONE,
          method: &["method/ard-paper", "inner/ard-paper"], schedule: LONG, code: ARD_CODE },
    Row { name: "ard-released-own", about: "ARD as its code computes it, on its own schedule", data: "ard", teachers: ONE,
          method: &["method/ard-released", "inner/ard-released"], schedule: ["optim/usual", "schedule/ard-released", "select/paper"], code: ARD_CODE },
    Row { name: "ard-released-300", about: "ARD as its code computes it, 300 epochs as RSLAD", data: "paper", teachers: ONE,
          method: &["method/ard-released", "inner/ard-released"], schedule: LONG, code: ARD_CODE },
    Row { name: "iad-paper-own", about: "IAD-I as printed, on its own schedule", data: "paper", teachers: ONE,
          method: &["method/iad-paper", "inner/ard-paper"], schedule: ["optim/usual", "schedule/ard-paper", "select/paper"], code: IAD_CODE },
    Row { name: "iad-paper-300", about: "IAD-I as printed, 300 epochs as RSLAD", data: "paper", teachers: ONE,
          method: &["method/iad-paper", "inner/ard-paper"], schedule: LONG, code: IAD_CODE },
    Row { name: "iad-released-own", about: "IAD-I as its code computes it, on its own schedule", data: "paper", teachers: ONE,
          method: &["method/iad-released", "inner/ard-released"], schedule: ["optim/usual", "schedule/ard-released", "select/paper"], code: IAD_CODE },
    Row { name: "iad-released-300", about: "IAD-I as its code computes it, 300 epochs as RSLAD", data: "paper", teachers: ONE,
          method: &["method/iad-released", "inner/ard-released"], schedule: LONG, code: IAD_CODE },
    Row { name: "rslad-paper", about: "RSLAD as printed", data: "paper", teachers: ONE,
          method: &["method/rslad-paper", "inner/rslad"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "rslad-released", about: "RSLAD as its code computes it", data: "paper", teachers: ONE,
          method: &["method/rslad-released", "inner/rslad"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "rslad-released-on-test", about: "RSLAD as its code computes it, and chosen on the test set as there", data: "paper", teachers: ONE,
          method: &["method/rslad-released", "inner/rslad"], schedule: ["optim/usual", "schedule/rslad", "select/on-test"], code: RSLAD_CODE },
    Row { name: "rslad-averaged", about: "RSLAD as its code computes it, with EMA and SWA beside the weights", data: "paper", teachers: ONE,
          method: &["method/rslad-released", "inner/rslad", "extra/average"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "rslad-awp", about: "RSLAD as its code computes it, with adversarial weight perturbation", data: "paper", teachers: ONE,
          method: &["method/rslad-released", "inner/rslad", "extra/awp"], schedule: LONG, code: RSLAD_CODE },
    Row { name: "iad2", about: "IAD-II, a robust and a natural teacher", data: "paper", teachers: TWO,
          method: &["method/iad2", "inner/ard-released"], schedule: ["optim/usual", "schedule/ard-released", "select/paper"], code: IAD2_CODE },
    Row { name: "adaad", about: "AdaAD", data: "paper", teachers: ONE,
          method: &["method/adaad", "inner/adaad"], schedule: ["optim/adaad", "schedule/adaad", "select/paper"], code: "" },
    Row { name: "igdm", about: "RSLAD with indirect gradient matching", data: "paper", teachers: ONE,
          method: &["method/igdm", "inner/rslad"], schedule: LONG, code: RSLAD_CODE },
];

/// Teachers and the surrogate, for those whose checkpoints have vanished.
#[rustfmt::skip]
const TEACHERS: &[Row] = &[
    Row { name: "wrn-natural", about: "a natural teacher, any wide ResNet", data: "paper", teachers: &[],
          method: &["method/natural"], schedule: ["optim/usual", "schedule/ard-paper", "select/paper"], code: ARD_CODE },
    Row { name: "wrn-sat", about: "a robust teacher by SAT, any wide ResNet", data: "paper", teachers: &[],
          method: &["method/sat", "inner/pgd"], schedule: ["optim/usual", "schedule/sat-own", "select/paper"], code: SAT_CODE },
    Row { name: "wrn-trades", about: "a robust teacher by TRADES, any wide ResNet", data: "paper", teachers: &[],
          method: &["method/trades", "inner/trades-own"], schedule: ["optim/usual", "schedule/trades-own", "select/paper"], code: TRADES_CODE },
    Row { name: "resnet50-sat", about: "the surrogate of the black-box table, by SAT", data: "paper", teachers: &[],
          method: &["method/sat", "inner/pgd"], schedule: ["optim/usual", "schedule/sat-own", "select/paper"], code: SAT_CODE },
];

/// Methods on a budget of one CPU.
#[rustfmt::skip]
const BUDGET: &[(&str, &str, &[&str], &[&str])] = &[
    ("natural", "natural training", &[], &["method/natural"]),
    ("sat", "SAT", &[], &["method/sat", "inner/pgd"]),
    ("trades", "TRADES", &[], &["method/trades", "inner/trades"]),
    ("ard", "ARD", ONE, &["method/ard-budget", "inner/ard-paper"]),
    ("iad", "IAD-I", ONE, &["method/iad-budget", "inner/ard-paper"]),
    ("rslad", "RSLAD", ONE, &["method/rslad-budget", "inner/rslad"]),
    ("teacher", "a robust teacher by SAT", &[], &["method/sat", "inner/pgd"]),
];

/// An ablation of RSLAD: the labels of attack, loss at x' and loss at x, and alpha.
const ABLATION: &[[&str; 4]] = &[
    ["hard", "hard", "hard", "0.8333333333333334"],
    ["hard", "teacher", "hard", "0.8333333333333334"],
    ["hard", "teacher", "teacher", "0.8333333333333334"],
    ["teacher", "teacher", "hard", "0.8333333333333334"],
    ["student", "student", "hard", "0.8333333333333334"],
    ["natural_teacher", "natural_teacher", "natural_teacher", "0.8333333333333334"],
    ["teacher", "teacher", "natural_teacher", "0.8333333333333334"],
    ["teacher", "teacher", "teacher", "0.8333333333333334"],
    ["teacher", "teacher", "teacher", "0.5"],
    ["teacher", "teacher", "teacher", "1.0"],
];

pub(super) fn all() -> Vec<Recipe> {
    let mut all = Vec::new();
    for data in DATA {
        for (student, title) in STUDENTS {
            all.extend(ROWS.iter().map(|row| row.recipe(data, student, title, student)));
        }
        for row in TEACHERS {
            let arch = row.name.split('-').next().unwrap_or_default();
            all.push(row.recipe(data, "", arch, arch));
        }
        all.extend(ABLATION.iter().map(|labels| ablation(data, *labels)));
        for budget in ["minutes", "hours"] {
            all.extend(BUDGET.iter().map(|row| budgeted(data, budget, row)));
        }
    }
    all
}

impl Row {
    fn recipe(&self, data: Data, prefix: &str, title: &str, student: &str) -> Recipe {
        let name = [prefix, self.name].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("-");
        let mut parts = vec![format!("data/{}", self.data), format!("student/{student}")];
        parts.extend(self.teachers.iter().map(|part| part.replace("{set}", data.name)));
        parts.extend(self.method.iter().chain(&self.schedule).map(|part| (*part).to_string()));
        let mut words = data.words();
        words.push(("by", by(self.method).into()));
        words.push(("code", self.code.into()));
        words.push(("optim_source", self.code.into()));
        let about = format!("{}: {title} on {}", self.about, data.title);
        Recipe { name: format!("{}/{name}", data.name), about, parts, words }
    }
}

fn ablation(data: Data, [inner, adv, nat, alpha]: [&str; 4]) -> Recipe {
    let natural = [inner, adv, nat].contains(&"natural_teacher");
    let robust = [inner, adv, nat].contains(&"teacher");
    let row = Row {
        name: "",
        about: "",
        data: "paper",
        teachers: match (robust, natural) {
            (true, true) => TWO,
            (true, false) => ONE,
            (false, true) => &["teacher/natural"],
            (false, false) => &[],
        },
        method: &["method/label_slots", "inner/rslad"],
        schedule: LONG,
        code: RSLAD_CODE,
    };
    let mut recipe = row.recipe(data, "resnet18-label_slots", "", "resnet18");
    let short = &alpha[..alpha.len().min(4)];
    recipe.name =
        format!("{}-{inner}-{adv}-{nat}-{short}", recipe.name).replace("natural_teacher", "natural");
    recipe.about = format!(
        "RSLAD's ablation, labels {inner} in the attack, {adv} at x', {nat} at x, alpha {short}: ResNet-18 on {}",
        data.title
    );
    let words = [("inner", inner), ("outer_adv", adv), ("outer_nat", nat), ("alpha", alpha)];
    recipe.words.extend(words.map(|(word, value)| (word, value.to_string())));
    recipe
}

fn budgeted(
    data: Data,
    budget: &'static str,
    (name, title, teachers, method): &(&str, &str, &[&str], &[&str]),
) -> Recipe {
    let width = if *name == "teacher" { "w16" } else { "w8" };
    let mut parts = vec![format!("data/{budget}"), format!("student/{width}")];
    parts.extend(teachers.iter().map(|_| format!("teacher/{budget}")));
    parts.extend(method.iter().map(|part| (*part).to_string()));
    parts.push("optim/usual".into());
    parts.extend([format!("schedule/{budget}"), format!("select/{budget}")]);
    if (*name, budget) == ("teacher", "hours") {
        let all = ["data/paper", "student/w16", "method/sat", "inner/pgd5", "optim/usual"];
        parts =
            all.into_iter().chain(["schedule/teacher-hours", "select/paper"]).map(str::to_string).collect();
    }
    let mut words = data.words();
    words.push(("by", by(method).into()));
    words.push(("code", if *name == "iad" { IAD_CODE } else { ARD_CODE }.into()));
    words.push(("optim_source", RSLAD_CODE.into()));
    words.push(("begin", if budget == "minutes" { "4".into() } else { data.pick("36", "9") }));
    let about =
        format!("{title} in {budget} on one CPU: ResNet-18 of width {} on {}", &width[1..], data.title);
    Recipe { name: format!("{}/resnet18-{width}-{name}-{budget}", data.name), about, parts, words }
}

/// What chooses the best checkpoint. By robust accuracy, natural training would choose the network that has learned
/// least.
fn by(method: &[&str]) -> &'static str {
    match method.contains(&"method/natural") {
        true => "\"loss\" # ours: the cross-entropy; no script of RSLAD trains naturally",
        false => "\"robust\" # the RSLAD scripts: the highest robust accuracy; \"loss\" asks no label",
    }
}

impl Data {
    fn pick(self, ten: &str, hundred: &str) -> String {
        if self.classes == 10 { ten } else { hundred }.to_string()
    }

    /// What differs between the data sets.
    fn words(self) -> Vec<(&'static str, String)> {
        let pick = |ten, hundred| self.pick(ten, hundred);
        vec![
            ("set", self.name.to_string()),
            ("classes", self.classes.to_string()),
            ("1/classes", pick("0.1", "0.01")),
            ("ard_batch", pick("128", "256")),
            ("hours_limit", pick("2000", "6000")),
            ("hours_epochs", pick("120", "30")),
            ("hours_drops", pick("[86, 104, 114]", "[21, 26, 28]")),
            ("rslad_script", pick("resnet18_rslad_cifar10.py", "resnet18_rslad_cifar100.py")),
            ("rslad_mean", pick("torch.mean over batch and classes", "10*torch.mean over batch and classes")),
            ("adaad_scale", pick("0.1", "1.0")),
            ("adaad_mean", pick("KLDivLoss() takes the mean over batch and classes", "1/len times the sum")),
            ("igdm_weight", pick("1.0", "10.0")),
        ]
    }
}
