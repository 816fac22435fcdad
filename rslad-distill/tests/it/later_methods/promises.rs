//! What a step promises any method, and what it says to one that breaks its own promise.

use super::values;
use crate::common::by_hand::{Scene, inner};
use rslad_distill::Result;
use rslad_distill::method::{ForwardSpec, Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use rslad_distill::step::Players;

type Outer = fn(&Forwards) -> Result<Terms>;

/// A method put together on the spot.
struct Custom {
    plan: Plan,
    outer: Outer,
}

impl Method for Custom {
    fn plan(&self) -> Plan {
        self.plan.clone()
    }
    fn inner<'a>(&self, _: &'a Forwards) -> Result<Inner<'a>> {
        Ok(Inner::None)
    }
    fn outer(&self, f: &Forwards) -> Result<Terms> {
        (self.outer)(f)
    }
}

fn nat(name: &'static str, who: Who) -> ForwardSpec {
    forward(name, who, Point::Nat)
}

#[test]
fn no_gradient_flows_to_frozen_networks() {
    let plan = Plan {
        labels: Labels::Unread,
        before: vec![nat("frozen", Who::FrozenStudent), nat("teacher", Who::Teacher)],
        after: vec![nat("second", Who::SecondTeacher), nat("student", Who::Student)],
    };
    let others = |f: &Forwards| {
        let sum = ((f.logits("frozen")? + f.logits("teacher")?)? + f.logits("second")?)?;
        Ok(Terms::one("others", sum.sqr()?.sum(1)?))
    };
    let out = Scene::new().step(&Custom { plan: plan.clone(), outer: others }, &inner(1, "frozen")).unwrap();
    assert!(out.terms.value().unwrap() > 0.0);
    assert!(out.gradients.iter().all(|g| values(g).iter().all(|v| *v == 0.0)));
    let with_student = |f: &Forwards| {
        let product = ((f.logits("frozen")? + f.logits("second")?)? * f.logits("student")?)?;
        Ok(Terms::one("product", product.sum(1)?))
    };
    let method = Custom { plan, outer: with_student };
    let out = Scene::new().step(&method, &inner(1, "frozen")).unwrap();
    Scene::new().check_gradient("frozen and student", &method, &out);
}

#[test]
fn a_method_that_breaks_its_word_is_told_so() {
    let scene = Scene::new();
    let early = forward("early", Who::Teacher, Point::Adv);
    let natural = nat("s_nat", Who::Student);
    let cases: [(Vec<ForwardSpec>, Outer, &str); 4] = [
        (vec![], |f| Ok(Terms::one("y", f.labels()?.clone())), "the method reads labels, but declares"),
        (
            vec![],
            |f| Ok(Terms::one("t", f.logits("t_nat")?.clone())),
            "reads forward `t_nat`, which it has not",
        ),
        (vec![early], |f| Ok(Terms::one("s", f.logits("s_nat")?.clone())), "forward `early` needs x_adv"),
        (
            vec![nat("teacher", Who::Teacher)],
            |f| Ok(Terms::one("s", f.logits("s_nat")?.clone())),
            "`[teacher]`",
        ),
    ];
    for (before, outer, expected) in cases {
        let method = Custom { plan: Plan { labels: Labels::Unread, before, after: vec![natural] }, outer };
        let mut players = Players::new(&scene.student, None, None).unwrap();
        let error = scene.step_of(&mut players, &method, &inner(1, "frozen")).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}, expected {expected}");
    }
}
