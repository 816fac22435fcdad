//! Projected sign ascent: the one loop behind FGSM, PGD, CW-inf and every inner maximization.
//!
//! The official codes of this field repeat the loop in every file and drift apart in the start, the
//! clip of the start and the order of clamp and projection. Here those are the fields of one value, and
//! what is ascended is an [`Objective`].

use crate::attack::{Finished, Search, State};
use crate::ball::Order;
use crate::error::{Error, Result};
use crate::lanes::Lanes;
use crate::pixels::away;
use crate::problem::Problem;
use candle_core::Tensor;
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, Objective};
use serde::{Deserialize, Serialize};

/// `steps` times: a step of `step_size` along the sign of the gradient, then projection.
///
/// A pixel whose gradient is 0 or NaN stays where it is.
///
/// # Units
/// `step_size` in pixel intensity.
///
/// # Source
/// Madry et al. 2018; with `steps` 1, `Start::Natural` and a step of eps, Goodfellow et al. 2015.
#[derive(Clone, Debug)]
pub struct SignAscent {
    /// The number of steps; none returns the start, projected.
    pub steps: usize,
    /// The size of a step.
    pub step_size: f64,
    /// Where to start.
    pub start: Start,
    /// Whether the first gradient is taken inside the ball and [0, 1].
    pub clip_start: ClipStart,
    /// The order of the projection's halves.
    pub order: Order,
}

/// Where an ascent starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// At x_nat.
    Natural,
    /// At `x_nat + eps * u`, u uniform in (-1, 1).
    Uniform,
    /// At `x_nat + std * z`, z standard normal: 0.001 in TRADES and RSLAD.
    Gaussian {
        /// The standard deviation, in pixel intensity.
        std: f64,
    },
    /// At these points, shaped like x_nat.
    Given(Tensor),
}

/// What happens to a random start before the first gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipStart {
    /// It is projected: RSLAD's evaluation attack, and most papers' text.
    Clip,
    /// Nothing: the released training attacks of ARD, TRADES and RSLAD take the first gradient at points
    /// that may lie outside [0, 1]. The first step projects.
    Keep,
}

/// Makes an objective from the labels `[n]` of the examples being searched.
pub type ByLabels<'a> = Box<dyn Fn(&Tensor) -> Result<Box<dyn Objective>> + 'a>;

impl SignAscent {
    /// A search that ascends an objective made for exactly this problem's rows, such as one that holds a
    /// teacher's logits. It cannot admit other examples or be saved.
    ///
    /// # Errors
    /// When the start cannot be drawn.
    pub fn search<'a>(
        &self,
        problem: &Problem,
        purpose: Purpose,
        objective: Box<dyn Objective + 'a>,
    ) -> Result<Box<dyn Search + 'a>> {
        let lanes = Some(Lanes::open(problem, self.start(problem, purpose)?));
        Ok(Box::new(Climb { ascent: self.clone(), purpose, aim: Aim::Fixed(objective), lanes }))
    }

    /// A search whose objective follows from the labels, so that lanes can come, go and be saved.
    ///
    /// # Errors
    /// When the start cannot be drawn or the objective refuses the labels.
    pub fn search_by_labels<'a>(
        &self,
        problem: &Problem,
        purpose: Purpose,
        objective: ByLabels<'a>,
    ) -> Result<Box<dyn Search + 'a>> {
        self.follow(Lanes::open(problem, self.start(problem, purpose)?), purpose, objective)
    }

    /// The search that [`Search::save`] wrote down.
    ///
    /// # Errors
    /// When the state is not one of a sign ascent.
    pub fn restore_by_labels<'a>(
        &self,
        state: &State,
        purpose: Purpose,
        objective: ByLabels<'a>,
    ) -> Result<Box<dyn Search + 'a>> {
        self.follow(Lanes::restore(state)?, purpose, objective)
    }

    fn follow<'a>(&self, lanes: Lanes, purpose: Purpose, make: ByLabels<'a>) -> Result<Box<dyn Search + 'a>> {
        let aim = Aim::ByLabels { now: make(&lanes.y)?, make };
        Ok(Box::new(Climb { ascent: self.clone(), purpose, aim, lanes: Some(lanes) }))
    }

    /// Where the problem's examples start.
    fn start(&self, problem: &Problem, purpose: Purpose) -> Result<Tensor> {
        let ball = problem.ball();
        let x = match &self.start {
            Start::Natural => ball.x_nat().clone(),
            Start::Uniform => away(ball.x_nat(), &problem.uniform(purpose, 0)?, ball.eps().get())?,
            Start::Gaussian { std } => away(ball.x_nat(), &problem.normal(purpose, 0)?, *std)?,
            Start::Given(x) if x.shape() == ball.x_nat().shape() => x.detach(),
            Start::Given(x) => {
                let expected = format!("{:?} like x_nat", ball.x_nat().dims());
                return Err(Error::Tensor {
                    what: "the given start",
                    got: format!("{:?}", x.dims()),
                    expected,
                });
            }
        };
        match self.clip_start {
            ClipStart::Clip => ball.project(&x, self.order),
            ClipStart::Keep => Ok(x),
        }
    }
}

/// What is ascended.
enum Aim<'a> {
    Fixed(Box<dyn Objective + 'a>),
    /// `now` belongs to the open lanes.
    ByLabels {
        make: ByLabels<'a>,
        now: Box<dyn Objective>,
    },
}

struct Climb<'a> {
    ascent: SignAscent,
    purpose: Purpose,
    aim: Aim<'a>,
    lanes: Option<Lanes>,
}

impl Search for Climb<'_> {
    fn lanes(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.ids.len())
    }

    fn advance(&mut self, f: &dyn Classifier) -> Result<Vec<Finished>> {
        let Some(lanes) = &mut self.lanes else { return Ok(Vec::new()) };
        if self.ascent.steps > 0 {
            step(&self.ascent, &self.aim, lanes, f)?;
        }
        let (finished, open) = lanes.retire(self.ascent.steps)?;
        if !finished.is_empty() {
            self.reopen(open)?;
        }
        Ok(finished)
    }

    fn admit(&mut self, problem: &Problem) -> Result<()> {
        let reason = match (&self.aim, &self.ascent.start) {
            (Aim::Fixed(_), _) => "its objective",
            (_, Start::Given(_)) => "its start",
            _ => {
                let fresh = Lanes::open(problem, self.ascent.start(problem, self.purpose)?);
                let joined = match &self.lanes {
                    Some(lanes) => lanes.join(&fresh)?,
                    None => fresh,
                };
                return self.reopen(Some(joined));
            }
        };
        Err(fixed("admit other examples", reason))
    }

    fn save(&self) -> Result<State> {
        match (&self.aim, &self.lanes) {
            (Aim::Fixed(_), _) => Err(fixed("be saved", "its objective")),
            (_, None) => Err(Error::Search("the search is over, expected open lanes to save".to_owned())),
            (_, Some(lanes)) => lanes.save(),
        }
    }
}

impl Climb<'_> {
    fn reopen(&mut self, lanes: Option<Lanes>) -> Result<()> {
        if let (Aim::ByLabels { make, now }, Some(lanes)) = (&mut self.aim, &lanes) {
            *now = make(&lanes.y)?;
        }
        self.lanes = lanes;
        Ok(())
    }
}

fn step(ascent: &SignAscent, aim: &Aim<'_>, lanes: &mut Lanes, f: &dyn Classifier) -> Result<()> {
    let gradient = match aim {
        Aim::Fixed(objective) => f.gradient(&lanes.x, objective.as_ref())?,
        Aim::ByLabels { now, .. } => f.gradient(&lanes.x, now.as_ref())?,
    };
    lanes.x = lanes.ball.sign_step(&lanes.x, &gradient.dx, ascent.step_size, ascent.order)?;
    lanes.iterations.iter_mut().for_each(|i| *i += 1);
    Ok(())
}

fn fixed(verb: &str, what: &str) -> Error {
    Error::Search(format!(
        "this search cannot {verb}: {what} was made for one batch; begin a new search instead"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::ascend;
    use crate::ball::Ball;
    use crate::linf::Linf;
    use crate::objectives::CrossEntropy;
    use crate::problem::Draws;
    use candle_core::{DType, Device};
    use rslad_models::{ClosureObjective, Gradient};

    /// A classifier whose gradient is given, whatever the objective.
    struct Slope([f32; 4]);

    impl Classifier for Slope {
        fn n_classes(&self) -> usize {
            2
        }
        fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
            Ok(Tensor::zeros((x.dim(0)?, 2), DType::F32, x.device())?)
        }
        fn gradient(&self, x: &Tensor, _: &dyn Objective) -> rslad_models::Result<Gradient> {
            let dx = Tensor::new(&self.0, x.device())?
                .reshape((1, 1, 1, 4))?
                .broadcast_as(x.shape())?
                .contiguous()?;
            let logits = self.logits(x)?;
            Ok(Gradient { loss: logits.sum(1)?, logits, dx })
        }
    }

    fn problem(ids: &[u64]) -> Problem {
        let x = Tensor::full(0.5f32, (ids.len(), 1, 1, 4), &Device::Cpu).unwrap();
        let y = Tensor::zeros(ids.len(), DType::U32, &Device::Cpu).unwrap();
        let ball = Ball::new(&x, Linf::new(0.25).unwrap()).unwrap();
        Problem::new(ball, &y, ids.to_vec(), Draws::Keyed { seed: 3, epoch: 1 }).unwrap()
    }

    fn ascent(steps: usize) -> SignAscent {
        let order = Order::ProjectClamp;
        SignAscent { steps, step_size: 0.0625, start: Start::Natural, clip_start: ClipStart::Keep, order }
    }

    fn run(ascent: &SignAscent, f: &dyn Classifier) -> Vec<f32> {
        let p = problem(&[0]);
        let nothing = ClosureObjective(|_: &[u32], z: &Tensor| Ok(z.sum(1)?));
        let mut search = ascent.search(&p, Purpose::INNER_START, Box::new(nothing)).unwrap();
        ascend(f, search.as_mut(), p.ball(), p.ids()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn steps_follow_the_sign_and_nothing_else_moves() {
        let f = Slope([3.0, -1e-30, 0.0, f32::NAN]);
        assert_eq!(run(&ascent(1), &f), [0.5625, 0.4375, 0.5, 0.5]);
        assert_eq!(run(&ascent(3), &f), [0.6875, 0.3125, 0.5, 0.5]);
        assert_eq!(run(&ascent(9), &f), [0.75, 0.25, 0.5, 0.5]); // the ball
        assert_eq!(run(&ascent(0), &f), [0.5; 4]);
    }

    #[test]
    fn starts_are_where_they_say() {
        let f = Slope([0.0; 4]);
        let from = |start| run(&SignAscent { start, ..ascent(1) }, &f);
        let p = problem(&[0]);
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let u = flat(p.uniform(Purpose::INNER_START, 0).unwrap());
        let z = flat(p.normal(Purpose::INNER_START, 0).unwrap());
        assert_eq!(from(Start::Uniform), u.iter().map(|u| 0.5 + 0.25 * u).collect::<Vec<_>>());
        let gaussian = z.iter().map(|z| (0.5 + 1e-3f32 * z).clamp(0.25, 0.75)).collect::<Vec<_>>();
        assert_eq!(from(Start::Gaussian { std: 1e-3 }), gaussian);
        let given = Tensor::new(&[[[[0.1f32, 0.5, 0.6, 0.9]]]], &Device::Cpu).unwrap();
        assert_eq!(from(Start::Given(given)), [0.25, 0.5, 0.6, 0.75]);
    }

    #[test]
    fn an_unclipped_start_is_where_the_first_gradient_is_taken() {
        /// Remembers whether it was asked about a point outside [0, 1].
        struct Nosy(std::sync::Mutex<Vec<f32>>);
        impl Classifier for Nosy {
            fn n_classes(&self) -> usize {
                2
            }
            fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
                let first = x.flatten_all()?.to_vec1::<f32>()?[0];
                self.0.lock().expect("no test panics while holding it").push(first);
                Ok(Tensor::zeros((x.dim(0)?, 2), DType::F32, x.device())?)
            }
        }
        let outside = Tensor::new(&[[[[-0.5f32, 0.5, 0.5, 0.5]]]], &Device::Cpu).unwrap();
        for (clip_start, expected) in [(ClipStart::Keep, [-0.5, 0.25]), (ClipStart::Clip, [0.25, 0.25])] {
            let f = Nosy(Default::default());
            run(&SignAscent { start: Start::Given(outside.clone()), clip_start, ..ascent(2) }, &f);
            assert_eq!(*f.0.lock().unwrap(), expected);
        }
    }

    fn by_labels() -> ByLabels<'static> {
        Box::new(|y| Ok(Box::new(CrossEntropy::new(y)?)))
    }

    #[test]
    fn lanes_come_go_and_each_counts_its_own_steps() {
        let f = Slope([1.0, -1.0, 1.0, -1.0]);
        let mut search =
            ascent(3).search_by_labels(&problem(&[1, 2]), Purpose::INNER_START, by_labels()).unwrap();
        assert!(search.advance(&f).unwrap().is_empty());
        search.admit(&problem(&[5])).unwrap();
        assert!(
            search.admit(&problem(&[2])).unwrap_err().to_string().contains("example 2 is being searched")
        );
        assert_eq!(search.lanes(), 3);
        assert!(search.advance(&f).unwrap().is_empty());
        let ids = |done: Vec<Finished>| done.into_iter().map(|d| d.id).collect::<Vec<_>>();
        assert_eq!(ids(search.advance(&f).unwrap()), [1, 2]);
        let last = search.advance(&f).unwrap();
        assert_eq!(
            last[0].x_adv.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [0.6875, 0.3125, 0.6875, 0.3125]
        );
        assert_eq!((ids(last), search.lanes()), (vec![5], 0));
        assert!(search.advance(&f).unwrap().is_empty() && search.save().is_err());
        search.admit(&problem(&[1])).unwrap(); // an empty search takes new examples
        assert_eq!(search.lanes(), 1);
    }

    #[test]
    fn a_search_made_for_one_batch_says_so() {
        let p = problem(&[0]);
        let objective = CrossEntropy::new(p.y()).unwrap();
        let mut search = ascent(1).search(&p, Purpose::INNER_START, Box::new(objective)).unwrap();
        assert!(
            search
                .admit(&problem(&[1]))
                .unwrap_err()
                .to_string()
                .contains("cannot admit other examples: its objective")
        );
        assert!(search.save().unwrap_err().to_string().contains("cannot be saved"));
        let given = SignAscent { start: Start::Given(p.ball().x_nat().clone()), ..ascent(1) };
        let mut search = given.search_by_labels(&p, Purpose::INNER_START, by_labels()).unwrap();
        assert!(search.admit(&problem(&[1])).unwrap_err().to_string().contains("its start"));
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let search =
            ascent(1).search_by_labels(&problem(&[1, 2]), Purpose::INNER_START, by_labels()).unwrap();
        let state = search.save().unwrap();
        let restore = |state: &State| {
            ascent(1).restore_by_labels(state, Purpose::INNER_START, by_labels()).map(|s| s.lanes())
        };
        assert_eq!(restore(&state).unwrap(), 2);
        let mut lacking = state.clone();
        lacking.tensors.remove("x");
        assert!(restore(&lacking).unwrap_err().to_string().contains("lacks `x`"));
        let mut short = state;
        short.json["ids"] = serde_json::json!([1]);
        assert!(restore(&short).unwrap_err().to_string().contains("different sizes"));
    }
}
