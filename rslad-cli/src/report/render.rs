//! The report as pages: HTML, Markdown, LaTeX. Templates lay out; every text that a user may have chosen
//! is escaped by the engine, for the language of the page.

use super::figures::Figure;
use super::labels;
use super::model::{Mark, Report};
use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Output, State, context};

const HTML: &str = include_str!("../../templates/report.html.jinja");
const STYLE: &str = include_str!("../../templates/report.css");
const MARKDOWN: &str = include_str!("../../templates/report.md.jinja");
const LATEX: &str = include_str!("../../templates/report.tex.jinja");

/// One file: no network, no script.
pub(super) fn html(report: &Report, figures: &[Figure]) -> Result<String> {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            context! {
                section => figure.section,
                title => figure.title.clone(),
                caption => figure.caption.clone(),
                svg => Value::from_safe_string(figure.inline()),
            }
        })
        .collect();
    let style = Value::from_safe_string(STYLE.into());
    render(
        "report.html",
        HTML,
        context! { sized => report.compares_sizes(), report => Value::from(Serde(report)), figures, style },
    )
}

/// For readers of repositories; figures are links to files beside it.
pub(super) fn markdown(report: &Report, figures: &[Figure]) -> Result<String> {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            let extension = if cfg!(feature = "png") { "png" } else { "svg" };
            context! {
                file => format!("figures/{}.{extension}", figure.name),
                title => figure.title.clone(),
                caption => figure.caption.clone(),
            }
        })
        .collect();
    render(
        "report.md",
        MARKDOWN,
        context! { sized => report.compares_sizes(), report => Value::from(Serde(report)), figures },
    )
}

/// A document that compiles alone.
pub(super) fn latex(report: &Report) -> Result<String> {
    render(
        "report.tex",
        LATEX,
        context! { sized => report.compares_sizes(), report => Value::from(Serde(report)) },
    )
}

/// A page whose name's ending says for what language values are escaped.
pub(crate) fn render(name: &'static str, template: &'static str, context: Value) -> Result<String> {
    let mut engine = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    engine.set_syntax(syntax.build().context("the syntax of templates")?);
    engine.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        Some("tex") => AutoEscape::Custom("latex".into()),
        _ => AutoEscape::Custom("markdown".into()),
    });
    engine.set_formatter(format);
    engine.add_filter("percent", |share: f64| labels::percent(share));
    engine.add_filter("percent2", |share: f64| format!("{:.2}", 100.0 * share));
    engine.add_filter("points", |difference: f64| labels::points(difference));
    engine.add_filter("p_value", p_value);
    engine.add_filter("count", |n: u64| crate::say::count(n));
    engine.add_filter("short", |n: u64| crate::say::short(n));
    engine.add_filter("ms", labels::milliseconds);
    engine.add_filter("mark", mark);
    engine.add_template(name, template).context(name)?;
    engine
        .get_template(name)
        .and_then(|page| page.render(context))
        .map_err(|e| anyhow::anyhow!("{name}: {:#}", anyhow::Error::new(e)))
}

/// Escapes values for the language of the page.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let escaped = match state.auto_escape() {
        AutoEscape::Custom(_) if value.is_safe() => value.to_string(),
        AutoEscape::Custom(language) if language == "latex" => in_latex(&value.to_string()),
        AutoEscape::Custom(_) => in_markdown(&value.to_string()),
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(&escaped).map_err(minijinja::Error::from)
}

fn in_latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '\u{2212}' => escaped.push_str("$-$"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '"' => escaped.push_str("''"),
            c if c.is_ascii() || c.is_alphabetic() => escaped.push(c),
            _ => escaped.push('?'),
        }
    }
    escaped
}

fn in_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

/// A mark in words.
fn mark(mark: Value) -> String {
    let known: Option<Mark> = serde_json::from_value(serde_json::Value::String(mark.to_string())).ok();
    match known {
        Some(Mark::Inside) => "inside",
        Some(Mark::Better) => "better",
        Some(Mark::Worse) => "worse",
        Some(Mark::NotRun) => "not run",
        Some(Mark::Unpublished | Mark::NotComparable) | None => "",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_choose_is_text_in_every_language() {
        let planted = "<script>alert(1)</script> a_b|c & 50 % $x$ \\input{/etc/passwd}";
        let html = render("a.html", "{{ text }}", context! { text => planted }).unwrap();
        assert!(!html.contains('<') && html.contains("&lt;script&gt;"), "{html}");
        let md = render("a.md", "{{ text }}", context! { text => planted }).unwrap();
        assert!(!md.contains('<') && md.contains("a\\_b\\|c &amp;"), "{md}");
        let tex = render("a.tex", "{{ text }}", context! { text => planted }).unwrap();
        assert!(tex.contains("a\\_b") && tex.contains("50 \\% \\$x\\$ \\textbackslash{}input\\{"), "{tex}");
    }
}
