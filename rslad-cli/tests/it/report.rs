//! `rslad report`: the page is one safe file, and says what the directories say.

use super::support::{Place, json};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const PLANTED: &str = "<script>alert(1)<_script>&_%";

/// A run in a directory with a hostile name, and its evaluation.
fn evaluated() -> Place {
    let place = Place::new();
    let run = format!("runs/{PLANTED}");
    place.train(&run, &["--set", "schedule.epochs=3", "--set", "schedule.drops=[2]"]).ok();
    for checkpoint in ["best", "last"] {
        let model = format!("{run}/{checkpoint}.safetensors");
        let out = format!("{run}/eval-{checkpoint}");
        let args =
            ["eval", "--model", &model, "--data", "digits", "--n", "40", "--suite", "quick", "--out", &out];
        place.rslad(&args).ok();
    }
    place
}

fn report(place: &Place, more: &[&str]) -> String {
    let args = [&["report", "runs", "--out", "report"][..], more].concat();
    assert_eq!(place.rslad(&args).ok().out, "report/report.html\n");
    fs::read_to_string(place.at("report/report.html")).unwrap()
}

#[test]
fn the_page_is_one_file_without_script_or_network_and_what_users_choose_is_text() {
    let place = evaluated();
    let html = report(&place, &["--title", "</title><script>alert(2)</script>"]);
    assert!(html.contains("Content-Security-Policy") && html.contains("default-src 'none'"));
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)"), "the planted name is text");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        let page = html.replace("http://www.w3.org/2000/svg", "").replace("img-src", "");
        assert!(!page.contains(outside), "{outside}");
    }
    for section in [
        "table",
        "pairs",
        "overfitting",
        "radius",
        "adversarial",
        "classes",
        "funnel",
        "landscape",
        "trust",
        "provenance",
    ] {
        assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    for file in ["report.md", "report.tex"] {
        let text = fs::read_to_string(place.at("report").join(file)).unwrap();
        assert!(!text.contains("<script"), "{file}");
    }
    for name in ["overview", "overfitting-resnet-18", "classes-resnet-18"] {
        let svg = fs::read_to_string(place.at(&format!("report/figures/{name}.svg"))).unwrap();
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        let png = image_size(&fs::read(place.at(&format!("report/figures/{name}.png"))).unwrap());
        assert!(png.0 >= 900, "{name}: {png:?}");
    }
}

fn image_size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let word = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (word(16), word(20))
}

#[test]
fn report_json_is_as_its_schema_says_and_agrees_with_the_results() {
    let place = evaluated();
    let table = "title = 'Paper'\nabout = 'a'\npaper = 'P'\nsource = 'Table 3'\n\
                 [[column]]\nname = 'clean'\nheading = 'Clean'\n[[column]]\nname = 'pgd20'\nheading = 'PGD'\n\
                 [[row]]\nstudent = 'resnet18'\nmethod = 'rslad'\ncheckpoint = 'best'\npublished = { clean = 0.0, pgd20 = 99.0 }\n\
                 [[row]]\nstudent = 'resnet18'\nmethod = 'sat'\ncheckpoint = 'best'\npublished = { clean = 83.38 }\n";
    fs::write(place.at("table.toml"), table).unwrap();
    report(&place, &["--table", "table.toml"]);
    let found = json(&place.at("report/report.json"));
    let schema = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/report.schema.json"));
    assert_eq!(problem(&found, &schema, "report"), None);
    let mut wrong = found.clone();
    wrong["columns"][0]["heading"] = 3.into();
    assert!(
        problem(&wrong, &schema, "report").unwrap().starts_with("report.columns.heading"),
        "the check can fail"
    );

    let result = json(&place.at(&format!("runs/{PLANTED}/eval-best/result.json")));
    let row = &found["groups"][0]["rows"][0];
    assert_eq!((row["label"].as_str(), row["checkpoint"].as_str()), (Some("RSLAD"), Some("best")));
    let pgd = result["columns"].as_array().unwrap().iter().find(|c| c["name"] == "pgd20").unwrap();
    assert_eq!(row["cells"][1]["measured"]["accuracy"], pgd["accuracy"]);
    assert_eq!(row["cells"][1]["measured"]["ci95"], pgd["ci95"]);
    assert_eq!(row["cells"][1]["mark"], "worse");
    let not_run = &found["groups"][0]["rows"][1];
    assert_eq!(
        (&not_run["cells"][0]["mark"], &not_run["cells"][0]["measured"]),
        (&"not_run".into(), &Value::Null)
    );
    assert_eq!(not_run["cells"][0]["published"]["source"], "Table 3");
    assert_eq!(found["runs"][0]["drops"], serde_json::json!([2]));
}

/// What in a value is not as a JSON Schema says, for the words that ours uses.
fn problem(value: &Value, schema: &Value, at: &str) -> Option<String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |name: &Value| name == kind || (name == "number" && kind == "integer");
    let allowed = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(fits),
        name => fits(name),
    };
    let is_of = |key: &str| schema[key].as_array().is_none_or(|values| values.contains(value));
    if !allowed || !is_of("enum") || !(schema["const"].is_null() || schema["const"] == *value) {
        return Some(format!("{at}: {value}"));
    }
    if let Value::Array(items) = value {
        return items.iter().find_map(|item| problem(item, &schema["items"], at));
    }
    let fields = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(key) = required.into_iter().find(|key| !fields.contains_key(*key)) {
        return Some(format!("{at}: no {key}"));
    }
    let known = schema["properties"].as_object()?;
    fields.iter().find_map(|(key, value)| match known.get(key) {
        Some(schema) => problem(value, schema, &format!("{at}.{key}")),
        None => Some(format!("{at}: unknown {key}")),
    })
}

#[test]
fn students_of_several_sizes_stand_against_what_they_cost() {
    let place = Place::new();
    for width in ["4", "8"] {
        let (run, out) = (format!("runs/w{width}"), format!("evals/w{width}"));
        let model = format!("{run}/last.safetensors");
        place.train(&run, &["--set", "schedule.epochs=1", "--set", &format!("student.width={width}")]).ok();
        let args =
            ["eval", "--model", &model, "--data", "digits", "--n", "20", "--attack", "fgsm", "--out", &out];
        place.rslad(&args).ok();
    }
    place.rslad(&["report", "runs", "evals", "--out", "report"]).ok();
    let report = json(&place.at("report/report.json"));
    let rows = report["groups"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["label"].clone()).collect::<Vec<_>>(), ["RSLAD, w4", "RSLAD, w8"]);
    let size = |row: usize, key: &str| rows[row]["size"][key].as_f64().unwrap();
    for key in ["parameters", "macs"] {
        assert!((3.0..4.1).contains(&(size(1, key) / size(0, key))), "{key}: {rows:?}");
    }
    assert!(size(0, "ms_per_image") > 0.0 && size(0, "parameters") == 5_142.0, "{rows:?}");
    let html = fs::read_to_string(place.at("report/report.html")).unwrap();
    assert!(html.contains("<th scope=\"col\">MACs</th>") && html.contains("<td>5.1 k</td>"));
    for measure in ["parameters", "multiply-accumulates", "milliseconds-an-image"] {
        assert!(place.at(&format!("report/figures/capacity-resnet-18-{measure}.svg")).exists(), "{measure}");
    }
    place.rslad(&["report", "runs/w4", "evals/w4", "--out", "one"]).ok();
    let html = fs::read_to_string(place.at("one/report.html")).unwrap();
    assert!(
        html.contains("5.1 k parameters") && !html.contains("MACs</th>"),
        "one size stands in the heading"
    );
    assert_eq!(json(&place.at("one/report.json"))["groups"][0]["rows"][0]["label"], "RSLAD");
}

#[test]
fn results_of_older_and_newer_versions_are_reported() {
    let place = Place::new();
    let old = r#"{"schema": 1, "model": {"path": "a.pt", "sha256": "00", "arch": {"arch": "resnet18"}},
        "data": {"name": "cifar10", "split": "test", "n": 100, "sha256": "11"}, "eps": "8/255", "seed": 0,
        "version": "0.0.1", "clean": {"correct": 83, "n": 100, "accuracy": 0.83, "ci95": [0.74, 0.89]},
        "columns": [{"name": "pgd20", "robust": 50, "n": 100}], "a key of the future": {}}"#;
    fs::create_dir_all(place.at("runs/old")).unwrap();
    fs::write(place.at("runs/old/result.json"), old).unwrap();
    let html = report(&place, &[]);
    assert!(html.contains("a.pt") || html.contains("A.PT"), "the model is named");
    assert!(html.contains(">83.0<") && html.contains(">50.0<"));

    fs::write(place.at("runs/old/result.json"), "{\"model\": 3}").unwrap();
    let did = place.rslad(&["report", "runs", "--out", "report"]);
    assert!(did.code == 2 && did.err.contains("expected the result of an evaluation"), "{did:?}");
    let did = place.rslad(&["report", "report", "--out", "again"]);
    assert!(did.code == 2 && did.err.contains("neither a training run"), "{did:?}");
    assert_eq!(place.rslad(&["report", "nowhere", "--out", "again"]).code, 2);
}

/// The first of these programs that is there.
fn program(names: &[&str]) -> Option<String> {
    let found = names
        .iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()));
    found.map(|name| name.to_string())
}

/// Says so past the test harness, which keeps what passing tests print to itself.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

#[test]
fn a_browser_draws_the_page() {
    let Some(browser) = program(&["chromium", "chromium-browser", "google-chrome"]) else {
        skipped("there is no Chromium here, so no browser has drawn the page");
        return;
    };
    let place = evaluated();
    report(&place, &[]);
    for (width, scheme) in [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark")] {
        let picture = place.at(&format!("{scheme}-{width}.png"));
        let size = format!("--window-size={width},2400");
        let shot = format!("--screenshot={}", picture.display());
        let profile = format!("--user-data-dir={}", place.at("profile").display());
        let page = format!("file://{}", place.at("report/report.html").display());
        let prefers = format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == "light"));
        let quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
        let quieter = ["--disable-component-update", "--disable-sync", "--hide-scrollbars"];
        let mut command = Command::new(&browser);
        command.args(["--headless", "--no-sandbox", &prefers]).args(quiet).args(quieter);
        let output = command.args([&profile, &shot, &size, &page]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("CONSOLE"), "{said}");
        let drawn = image::open(picture).unwrap().to_rgb8();
        assert_eq!(drawn.width(), width);
        let colors: std::collections::HashSet<_> = drawn.pixels().collect();
        assert!(colors.len() > 200, "an empty page has fewer colors than {}", colors.len());
        let page = drawn.get_pixel(width - 3, 3);
        assert_eq!(page[0] > 128, scheme == "light", "{scheme} {page:?}");
        let edge = (0..2400).map(|y| drawn.get_pixel(width - 3, y));
        assert!(edge.into_iter().all(|pixel| pixel == page), "{width}: something is wider than the page");
    }
}

#[test]
fn latex_compiles_the_document() {
    let Some(latex) = program(&["pdflatex"]) else {
        skipped("there is no pdflatex here, so report.tex was not compiled");
        return;
    };
    let place = evaluated();
    report(&place, &[]);
    let mut command = Command::new(latex);
    command
        .args(["-interaction=nonstopmode", "-halt-on-error", "report.tex"])
        .current_dir(place.at("report"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
