//! From a table and a scale to a GRID file.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use toml::{Table, Value};

use super::args::Args;
use super::scale::{Evaluate, Method, Part, Scale, Teacher, merged};

/// A row of the table that is trained.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    student: String,
    method: String,
    variant: Option<String>,
    checkpoint: String,
}

impl Row {
    fn of(row: &Table) -> anyhow::Result<Self> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let need = |key: &str| text(key).with_context(|| format!("a row of the table has no `{key}`"));
        Ok(Self {
            student: need("student")?,
            method: need("method")?,
            variant: text("variant"),
            checkpoint: need("checkpoint")?,
        })
    }

    /// The name of its training cell.
    fn run(&self, seed: u64) -> String {
        let variant = self.variant.as_ref().map_or(String::new(), |variant| format!("-{}", slug(variant)));
        format!("{}-{}{variant}-s{seed}", self.student, self.method)
    }

    fn to_toml(&self, role: Option<&str>) -> Value {
        let mut row = Table::new();
        if let Some(role) = role {
            row.insert("role".into(), role.into());
        }
        row.insert("student".into(), self.student.clone().into());
        row.insert("method".into(), self.method.clone().into());
        row.insert("checkpoint".into(), self.checkpoint.clone().into());
        if let Some(variant) = &self.variant {
            row.insert("variant".into(), variant.clone().into());
        }
        row.into()
    }
}

/// Words of a name that may be part of a directory's.
fn slug(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let words: Vec<String> =
        text.split(|c| !is_plain(c)).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    words.join("-")
}

/// The grid that fills a table at a scale.
///
/// # Errors
/// When the two do not fit, or `--only` leaves nothing.
pub(crate) fn grid(name: &str, table: &Table, scale: &Scale, args: &Args) -> anyhow::Result<Table> {
    let seeds = args.seeds.as_ref().unwrap_or(&scale.seeds);
    let rows = rows(table, scale, args)?;
    let mut cells = vec![];
    let composer = Composer { scale, data: data(scale, args), shards: args.shards };
    let used = composer.teachers_of(&rows)?;
    for teacher in scale.teacher.iter().filter(|teacher| used.contains(teacher.name.as_str())) {
        cells.extend(composer.train_teacher(teacher)?);
    }
    let runs: BTreeSet<(&Row, u64)> =
        rows.iter().flat_map(|row| seeds.iter().map(move |&seed| (row, seed))).collect();
    let mut trained = BTreeSet::new();
    for (row, seed) in &runs {
        if trained.insert(row.run(*seed)) {
            cells.push(composer.train(row, *seed)?);
        }
    }
    for teacher in scale.teacher.iter().filter(|teacher| used.contains(teacher.name.as_str())) {
        cells.extend(composer.evaluate_teacher(teacher)?);
    }
    for (row, seed) in &runs {
        cells.extend(composer.evaluate(row, *seed)?);
    }
    cells.extend(composer.look(&rows, seeds.first().copied().unwrap_or(0)));

    let title = table.get("title").and_then(Value::as_str).unwrap_or(name);
    let mut grid = Table::new();
    grid.insert("schema".into(), 1.into());
    grid.insert("name".into(), name.into());
    grid.insert("title".into(), format!("{title}: {}", scale.about).into());
    if let Some(stamp) = &scale.stamp {
        grid.insert("stamp".into(), stamp.clone().into());
    }
    grid.insert("table".into(), "table.toml".into());
    grid.insert("remake".into(), remake(name, args).into());
    grid.insert("cell".into(), Value::Array(cells.into_iter().map(Value::Table).collect()));
    Ok(grid)
}

/// The data spec, with the folder that was named where one may follow.
fn data(scale: &Scale, args: &Args) -> String {
    match &args.data {
        Some(folder) if scale.data.starts_with("cifar") => format!("{}:{folder}", scale.data),
        _ => scale.data.clone(),
    }
}

fn remake(name: &str, args: &Args) -> String {
    let (table, scale) = name.rsplit_once('-').unwrap_or((name, ""));
    let mut command = format!("cargo xtask reproduce {table} --scale {scale}");
    args.only.iter().for_each(|only| command.push_str(&format!(" --only {only}")));
    args.shards.iter().for_each(|shards| command.push_str(&format!(" --shards {shards}")));
    if let Some(seeds) = &args.seeds {
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        command.push_str(&format!(" --seeds {}", seeds.join(",")));
    }
    command
}

/// The table's rows that this scale fills.
fn rows(table: &Table, scale: &Scale, args: &Args) -> anyhow::Result<Vec<Row>> {
    let all = table.get("row").and_then(Value::as_array).context("the table has no rows")?;
    let tables = all.iter().filter_map(Value::as_table).filter(|row| row.get("role").is_none());
    let rows: Vec<Row> = tables.map(Row::of).collect::<anyhow::Result<_>>()?;
    let filled = |row: &Row| {
        let known = scale.student.contains_key(&row.student) && scale.method.contains_key(&row.method);
        let variant = row.variant.as_ref().is_none_or(|variant| scale.variant.contains_key(variant));
        known && variant && args.wants(&row.student, &row.method)
    };
    let rows: Vec<Row> = rows.into_iter().filter(filled).collect();
    if rows.is_empty() {
        bail!("no row is left; --only takes part of `student/method`, such as resnet18/rslad");
    }
    Ok(rows)
}

struct Composer<'s> {
    scale: &'s Scale,
    data: String,
    shards: Option<usize>,
}

impl Composer<'_> {
    fn method(&self, row: &Row) -> anyhow::Result<&Method> {
        self.scale.method.get(&row.method).with_context(|| format!("the scale has no method {}", row.method))
    }

    fn teacher(&self, name: &str) -> anyhow::Result<&Teacher> {
        let found = self.scale.teacher.iter().find(|teacher| teacher.name == name);
        found.with_context(|| format!("the scale has no teacher {name}"))
    }

    fn variant(&self, row: &Row) -> Option<&Part> {
        row.variant.as_ref().and_then(|variant| self.scale.variant.get(variant))
    }

    /// The names of the teacher and the second teacher of a row.
    fn teachers(&self, row: &Row) -> anyhow::Result<[Option<&str>; 2]> {
        let (method, variant) = (self.method(row)?, self.variant(row));
        let first = variant.and_then(|v| v.teacher.as_ref()).or(method.teacher.as_ref());
        let second = variant.and_then(|v| v.second_teacher.as_ref()).or(method.second_teacher.as_ref());
        Ok([first.map(String::as_str), second.map(String::as_str)])
    }

    /// The names of the teachers that rows need, with those that they need themselves.
    fn teachers_of(&self, rows: &[Row]) -> anyhow::Result<BTreeSet<&str>> {
        let mut used = BTreeSet::new();
        for row in rows {
            used.extend(self.teachers(row)?.into_iter().flatten());
        }
        used.extend(self.scale.evaluate.iter().filter_map(|evaluate| evaluate.source.as_deref()));
        let own: Vec<&str> =
            used.iter().filter_map(|name| self.teacher(name).ok()?.teacher.as_deref()).collect();
        used.extend(own);
        Ok(used)
    }

    fn weights(&self, name: &str) -> anyhow::Result<Value> {
        let teacher = self.teacher(name)?;
        let mut model = Table::new();
        match &teacher.file {
            Some(file) => {
                model.insert("file".into(), file.clone().into());
                if let Some(arch) = &teacher.arch {
                    model.insert("arch".into(), arch.clone().into());
                }
            }
            None => {
                model.insert("cell".into(), name.into());
                model.insert("checkpoint".into(), "best".into());
            }
        }
        Ok(model.into())
    }

    fn training(&self, name: String, recipe: String, seed: u64, set: Table) -> Table {
        let mut set = set;
        set.insert("data.set".into(), self.data.clone().into());
        let mut cell = cell("train", name);
        cell.insert("recipe".into(), recipe.into());
        cell.insert("seed".into(), Value::Integer(seed as i64));
        cell.insert("set".into(), set.into());
        cell
    }

    fn train_teacher(&self, teacher: &Teacher) -> anyhow::Result<Option<Table>> {
        let Some(recipe) = &teacher.recipe else { return Ok(None) };
        let set = merged(&[&self.scale.set, &teacher.set]);
        let mut cell = self.training(teacher.name.clone(), recipe.clone(), 0, set);
        if let Some(own) = &teacher.teacher {
            cell.insert("teacher".into(), self.weights(own)?);
        }
        Ok(Some(cell))
    }

    fn train(&self, row: &Row, seed: u64) -> anyhow::Result<Table> {
        let method = self.method(row)?;
        let student = &self.scale.student[&row.student].set;
        let (none, variant) = (Table::new(), self.variant(row));
        let changes = variant.map_or(&none, |variant| &variant.set);
        let set = merged(&[&self.scale.set, student, &method.set, changes]);
        let recipe = variant.and_then(|variant| variant.recipe.as_ref()).unwrap_or(&method.recipe);
        let recipe = recipe.replace("{student}", &row.student);
        let mut cell = self.training(row.run(seed), recipe, seed, set);
        for (slot, name) in ["teacher", "second_teacher"].into_iter().zip(self.teachers(row)?) {
            if let Some(name) = name {
                cell.insert(slot.into(), self.weights(name)?);
            }
        }
        Ok(cell)
    }

    fn evaluate_teacher(&self, teacher: &Teacher) -> anyhow::Result<Vec<Table>> {
        let Some(row) = &teacher.row else { return Ok(vec![]) };
        let row = Row {
            student: row.student.clone(),
            method: row.method.clone(),
            variant: None,
            checkpoint: "best".into(),
        };
        let all = self.scale.evaluate.iter();
        let at_all = all.filter(|evaluate| evaluate.eps.is_empty() && evaluate.source.is_none());
        at_all
            .map(|evaluate| {
                let name = format!("{}-{}", teacher.name, evaluate.name);
                let model = self.weights(&teacher.name)?;
                let cell = self.evaluation(name, model, evaluate, row.to_toml(Some("teacher")));
                Ok(self.in_blocks(cell, evaluate))
            })
            .collect::<anyhow::Result<Vec<_>>>()
            .map(|cells| cells.concat())
    }

    fn evaluate(&self, row: &Row, seed: u64) -> anyhow::Result<Vec<Table>> {
        let wanted = self.scale.evaluate.iter().filter(|evaluate| {
            let of_method = evaluate.methods.is_empty() || evaluate.methods.contains(&row.method);
            let of_checkpoint =
                evaluate.checkpoints.is_empty() || evaluate.checkpoints.contains(&row.checkpoint);
            of_method && of_checkpoint
        });
        wanted
            .map(|evaluate| {
                let name = format!("{}-{}-{}", row.run(seed), row.checkpoint, evaluate.name);
                let mut model = Table::new();
                model.insert("cell".into(), row.run(seed).into());
                model.insert("checkpoint".into(), row.checkpoint.clone().into());
                let mut cell = self.evaluation(name, model.into(), evaluate, row.to_toml(None));
                if let Some(source) = &evaluate.source {
                    cell.insert("source".into(), self.weights(source)?);
                }
                Ok(self.in_blocks(cell, evaluate))
            })
            .collect::<anyhow::Result<Vec<_>>>()
            .map(|cells| cells.concat())
    }

    /// An evaluation as it is, or a cell for each block of its images and one that merges them.
    fn in_blocks(&self, cell: Table, evaluate: &Evaluate) -> Vec<Table> {
        let of_one_radius = evaluate.eps.is_empty();
        let Some(shards) = self.shards.filter(|&shards| shards > 1 && of_one_radius) else {
            return vec![cell];
        };
        let name = cell["name"].as_str().unwrap_or_default().to_owned();
        let part = |shard: usize| {
            let mut part = cell.clone();
            part.remove("row");
            part.insert("name".into(), format!("{name}-part{shard}of{shards}").into());
            part.insert("shard".into(), format!("{shard}/{shards}").into());
            part
        };
        let mut cells: Vec<Table> = (1..=shards).map(part).collect();
        let parts = cells.iter().map(|part| part["name"].clone()).collect();
        let mut merge = self::cell("merge", name);
        merge.insert("parts".into(), Value::Array(parts));
        merge.insert("row".into(), cell["row"].clone());
        cells.push(merge);
        cells
    }

    fn evaluation(&self, name: String, model: Value, evaluate: &Evaluate, row: Value) -> Table {
        let strings = |all: &[String]| Value::Array(all.iter().cloned().map(Value::String).collect());
        let radii =
            if evaluate.eps.is_empty() { std::slice::from_ref(&self.scale.eps) } else { &evaluate.eps };
        let mut cell = cell("eval", name);
        cell.insert("model".into(), model);
        cell.insert("data".into(), self.data.clone().into());
        cell.insert("split".into(), "test".into());
        cell.insert("n".into(), Value::Integer(evaluate.n as i64));
        cell.insert("suite".into(), strings(&evaluate.suite));
        cell.insert("eps".into(), strings(radii));
        cell.insert("seed".into(), 0.into());
        cell.insert("row".into(), row);
        cell
    }

    /// Pictures, where all the methods that they show are trained.
    fn look(&self, rows: &[Row], seed: u64) -> Option<Table> {
        let look = self.scale.look.as_ref()?;
        let mut models = Table::new();
        for method in &look.methods {
            let of = |row: &&Row| row.student == look.student && row.method == *method;
            let row = rows.iter().find(of)?;
            let mut model = Table::new();
            model.insert("cell".into(), row.run(seed).into());
            model.insert("checkpoint".into(), "last".into());
            let label = if method == "natural" { "Natural".to_owned() } else { method.to_uppercase() };
            models.insert(label, model.into());
        }
        let mut cell = cell("look", "look".into());
        cell.insert("data".into(), self.data.clone().into());
        cell.insert("split".into(), "test".into());
        cell.insert("n".into(), Value::Integer(look.n as i64));
        cell.insert("attack".into(), look.attack.clone().into());
        cell.insert("eps".into(), self.scale.eps.clone().into());
        cell.insert("seed".into(), 0.into());
        cell.insert("models".into(), models.into());
        Some(cell)
    }
}

fn cell(kind: &str, name: String) -> Table {
    let mut cell = Table::new();
    cell.insert("kind".into(), kind.into());
    cell.insert("name".into(), name.into());
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "title = 'T'\n\
        [[row]]\nrole = 'teacher'\nstudent = 'wrn'\nmethod = 'trades'\ncheckpoint = 'last'\n\
        [[row]]\nstudent = 'resnet18'\nmethod = 'sat'\ncheckpoint = 'best'\n\
        [[row]]\nstudent = 'resnet18'\nmethod = 'rslad'\ncheckpoint = 'best'\n\
        [[row]]\nstudent = 'resnet18'\nmethod = 'rslad'\ncheckpoint = 'last'\n\
        [[row]]\nstudent = 'mobilenet_v2'\nmethod = 'rslad'\ncheckpoint = 'last'\n";
    const SCALE: &str = "about = 'a'\ndata = 'cifar10'\neps = '8/255'\nseeds = [0, 1]\n\
        [[teacher]]\nname = 'teacher'\nrecipe = 'r/teacher'\n\
        [student.resnet18]\nset = { 'student.width' = 8 }\n\
        [method.sat]\nrecipe = 'r/{student}-sat'\n\
        [method.rslad]\nrecipe = 'r/{student}-rslad'\nteacher = 'teacher'\n\
        [[evaluate]]\nname = 'aa'\nsuite = ['autoattack']\nn = 10\nmethods = ['rslad']\ncheckpoints = ['best']\n\
        [[evaluate]]\nname = 'pgd'\nsuite = ['quick']\nn = 0\n";

    fn composed(words: &[&str]) -> Table {
        let args = Args::parse(&[&["cifar10"], words].concat()).unwrap();
        grid("cifar10-small", &TABLE.parse().unwrap(), &toml::from_str(SCALE).unwrap(), &args).unwrap()
    }

    fn names(grid: &Table) -> Vec<&str> {
        grid["cell"].as_array().unwrap().iter().map(|cell| cell["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_run_is_trained_once_and_evaluated_for_each_of_its_rows() {
        let grid = composed(&["--seeds", "0"]);
        assert_eq!(
            names(&grid),
            [
                "teacher",
                "resnet18-rslad-s0",
                "resnet18-sat-s0",
                "resnet18-rslad-s0-best-aa",
                "resnet18-rslad-s0-best-pgd",
                "resnet18-rslad-s0-last-pgd",
                "resnet18-sat-s0-best-pgd",
            ]
        );
        let cells = grid["cell"].as_array().unwrap();
        assert_eq!(cells[1]["teacher"]["cell"].as_str(), Some("teacher"));
        assert_eq!(cells[1]["recipe"].as_str(), Some("r/resnet18-rslad"));
        assert_eq!(grid["remake"].as_str(), Some("cargo xtask reproduce cifar10 --scale small --seeds 0"));
        assert_eq!(names(&composed(&[])).len(), 13, "two seeds share a teacher");
    }

    #[test]
    fn evaluations_are_cut_into_blocks_and_merged() {
        let grid = composed(&["--only", "sat", "--seeds", "0", "--shards", "2"]);
        let merged = "resnet18-sat-s0-best-pgd";
        let [first, second] = [1, 2].map(|i| format!("{merged}-part{i}of2"));
        assert_eq!(names(&grid), ["resnet18-sat-s0", &first, &second, merged]);
        let cells = grid["cell"].as_array().unwrap();
        assert_eq!(cells[2]["shard"].as_str(), Some("2/2"));
        assert!(cells[2].get("row").is_none() && cells[3].get("row").is_some());
        assert_eq!(cells[3]["parts"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn every_scale_fits_its_table() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: String| std::fs::read_to_string(folder.join(path)).unwrap();
        for (table, scales, _) in super::super::TABLES {
            for scale in *scales {
                let budget: Scale = toml::from_str(&read(format!("scales/{table}-{scale}.toml"))).unwrap();
                let published = read(format!("tables/{table}.toml")).parse().unwrap();
                let grid = super::grid(table, &published, &budget, &Args::parse(&[*table]).unwrap()).unwrap();
                assert!(names(&grid).len() > 5, "{table} {scale}");
                assert_eq!(*scale == "smoke", grid.contains_key("stamp"), "{table} {scale}");
                budget.suite_files().for_each(|suite| drop(read(format!("suites/{suite}"))));
            }
        }
    }

    #[test]
    fn only_what_is_asked_for_is_composed() {
        let grid = composed(&["--only", "sat", "--data", "/data/c10"]);
        assert_eq!(
            names(&grid),
            ["resnet18-sat-s0", "resnet18-sat-s1", "resnet18-sat-s0-best-pgd", "resnet18-sat-s1-best-pgd"]
        );
        assert_eq!(grid["cell"][0]["set"]["data.set"].as_str(), Some("cifar10:/data/c10"));
        let args = Args::parse(&["cifar10", "--only", "none"]).unwrap();
        assert!(super::grid("a", &TABLE.parse().unwrap(), &toml::from_str(SCALE).unwrap(), &args).is_err());
    }
}
