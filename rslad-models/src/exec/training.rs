//! Train mode: forwards with batch statistics, parameter gradients, running statistics.

use super::batch::{Batch, Machine, Moments, Trained};
use super::device::{self, Train, WayBack};
use super::engine::{Engine, Executor, Threads};
use super::exchange::Exchange;
use super::plan::{Hold, Plans};
use super::program::{Kind, Mode};
use super::reference::{self, Seen, Statistics};
use super::weights::{Weights, with_values};
use crate::classifier::{Classifier, Gradient, Objective, pull_back};
use crate::device::beside;
use crate::error::{Error, Result};
use crate::graph::{self, Op};
use crate::kernels::Isa;
use crate::network::Network;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A network in train mode. Every forward normalizes by batch statistics and updates the running ones;
/// gradients of several backwards add up until they are taken.
pub struct Training<'n> {
    network: &'n Network,
    engine: Option<Engine>,              // none: as the environment says
    exchange: Option<Arc<dyn Exchange>>, // none: a batch is this process's alone
    body: OnceLock<Body>,
    gradients: Vec<Option<Sum>>, // one per parameter
    buffers: Mutex<()>,          // held while running statistics change
}

/// What runs it.
enum Body {
    Reference,
    Compiled(Compiled),
    OnDevice(Box<dyn Train>),
}

/// A parameter's gradients, added up.
enum Sum {
    Tensor(Tensor),
    Values(Vec<f32>),
}

/// Plans with the weights of the latest forward.
struct Compiled {
    isa: Isa,
    threads: Threads,
    plans: Plans,
    packed: Mutex<Option<Arc<Weights>>>,
}

/// One forward in train mode, alive until its backward.
pub struct Pass {
    logits: Tensor,
    body: PassBody,
}

enum PassBody {
    Reference(Tensor),
    Compiled(Batch),
    OnDevice(Box<dyn WayBack>),
}

impl Pass {
    /// The logits, `[N, K]`.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

impl<'n> Training<'n> {
    pub(crate) fn new(network: &'n Network) -> Self {
        let n = network.params().parameters().count();
        let (gradients, buffers) = ((0..n).map(|_| None).collect(), Mutex::new(()));
        Self { network, engine: None, exchange: None, body: OnceLock::new(), gradients, buffers }
    }

    /// A network in train mode on a given engine, whatever the environment says.
    pub fn with_engine(network: &'n Network, engine: Engine) -> Self {
        Self { engine: Some(engine), ..Self::new(network) }
    }

    /// From now on a batch is shared with other processes: each forward and each way back takes the images
    /// of all into its statistics, and all must make them in the same order. Gradients of parameters stay
    /// those of this process's own images; they add up to the whole batch's, each by its share of the images.
    /// `None` ends it.
    pub fn share(&mut self, exchange: Option<Arc<dyn Exchange>>) {
        self.exchange = exchange;
    }

    /// A forward with batch statistics; updates the running statistics as PyTorch does (momentum 0.1,
    /// biased variance to normalize, unbiased to track).
    ///
    /// # Shapes
    /// `x`: `[N, C, H, W]`, f32 in `[0, 1]`.
    ///
    /// # Errors
    /// When the images do not fit, a normalization sees fewer than two values per channel, or the
    /// environment asks for an executor that is not there.
    pub fn forward(&mut self, x: &Tensor) -> Result<Pass> {
        let (logits, body, seen) = match self.body()? {
            Body::Reference => {
                let params = self.network.params().tracked();
                let mut seen = Vec::new();
                let own = x.detach().to_device(self.network.device())?;
                let statistics = Statistics::Batch(&mut seen);
                let tracked = reference::run(self.network.graph(), &params, &own, statistics)?;
                (beside(&tracked.detach(), x)?, PassBody::Reference(tracked), seen)
            }
            Body::Compiled(compiled) => {
                let (batch, logits, seen) =
                    compiled.forward(self.network, self.exchange.as_deref(), x, Hold::WayBack)?;
                (logits, PassBody::Compiled(batch), seen)
            }
            Body::OnDevice(train) => {
                let (way, logits, seen) =
                    train.forward(&self.network.params().present(), &self.carried(x)?)?;
                (beside(&logits, x)?, PassBody::OnDevice(way), seen)
            }
        };
        self.track(&seen, None)?;
        Ok(Pass { logits, body })
    }

    /// Adds the parameter gradients of `sum(logits * dlogits)`.
    ///
    /// # Shapes
    /// `dlogits`: `[N, K]`, the derivative of the loss with respect to the logits of `pass`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn backward(&mut self, pass: Pass, dlogits: &Tensor) -> Result<()> {
        let dlogits = like_logits(dlogits, &pass.logits)?;
        match pass.body {
            PassBody::Reference(tracked) => {
                let dlogits = beside(&dlogits, &tracked)?;
                let grads = (tracked * dlogits)?.sum_all()?.backward()?;
                let parameters = self.network.params().parameters();
                let grads: Vec<_> = parameters.map(|(_, var)| grads.get(var.as_tensor()).cloned()).collect();
                for (sum, grad) in self.gradients.iter_mut().zip(grads) {
                    let Some(grad) = grad else { continue };
                    *sum = Some(Sum::Tensor(match sum.take() {
                        Some(Sum::Tensor(sum)) => (sum + grad.detach())?,
                        _ => grad.detach(),
                    }));
                }
                Ok(())
            }
            PassBody::Compiled(batch) => {
                let Body::Compiled(compiled) = self.body()? else { unreachable!("a plan made this pass") };
                let machine = compiled.machine(self.network, self.exchange.as_deref());
                let found = with_values(&dlogits, |d| {
                    compiled.run(&machine, || batch.parameter_gradients(&machine, d))
                })??;
                for gradient in found {
                    let place = self.place(gradient.entry);
                    match &mut self.gradients[place] {
                        Some(Sum::Values(sum)) => {
                            sum.iter_mut().zip(&gradient.values).for_each(|(s, g)| *s += g)
                        }
                        sum => *sum = Some(Sum::Values(gradient.values)),
                    }
                }
                Ok(())
            }
            PassBody::OnDevice(way) => {
                let dlogits = dlogits.to_device(self.network.device())?;
                for (entry, gradient) in way.parameter_gradients(&dlogits)? {
                    let place = self.place(entry);
                    let sum = match self.gradients[place].take() {
                        Some(Sum::Tensor(sum)) => (sum + gradient)?,
                        _ => gradient,
                    };
                    self.gradients[place] = Some(Sum::Tensor(sum));
                }
                Ok(())
            }
        }
    }

    /// The place of an entry among the parameters.
    fn place(&self, entry: usize) -> usize {
        let before = &self.network.params().entries()[..entry];
        before.iter().filter(|e| e.kind == graph::Kind::Parameter).count()
    }

    /// Takes the gradients that have added up, one for each of `Network::parameters`, in order.
    ///
    /// # Errors
    /// When a parameter has none, because no backward has run.
    pub fn take_gradients(&mut self) -> Result<Vec<Tensor>> {
        let missing =
            |name: &str| Error::Other(format!("parameter `{name}` has no gradient: run a backward first"));
        let take = |(sum, (name, var)): (&mut Option<Sum>, (&str, &Var))| match sum.take() {
            None => Err(missing(name)),
            Some(Sum::Tensor(sum)) => Ok(sum),
            Some(Sum::Values(sum)) => Ok(Tensor::from_vec(sum, var.shape(), &Device::Cpu)?),
        };
        self.gradients.iter_mut().zip(self.network.params().parameters()).map(take).collect()
    }

    /// The network as the released ARD, IAD and SAT codes attack it: in train mode, through batch
    /// statistics, each forward updating the running ones. Rows of a batch influence each other here,
    /// so it is the one view whose results depend on how examples are batched.
    pub fn attack_view(&self) -> AttackView<'_> {
        AttackView { training: self }
    }

    /// Replaces the running statistics by their plain average over these batches: what averaged weights
    /// need before they are evaluated.
    ///
    /// # Errors
    /// When a batch does not fit.
    pub fn reestimate<E: From<Error>>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<Tensor, E>>,
    ) -> std::result::Result<(), E> {
        for (i, x) in batches.into_iter().enumerate() {
            let (_, seen) = self.look(&x?)?;
            self.track(&seen, Some(1.0 / (i + 1) as f64))?;
        }
        Ok(())
    }

    /// Logits by batch statistics and what was seen, without a way back.
    fn look(&self, x: &Tensor) -> Result<(Tensor, Vec<Seen>)> {
        match self.body()? {
            Body::Reference => {
                let (own, mut seen) = (x.to_device(self.network.device())?, Vec::new());
                let statistics = Statistics::Batch(&mut seen);
                let logits =
                    reference::run(self.network.graph(), &self.network.params().present(), &own, statistics)?;
                Ok((beside(&logits, x)?, seen))
            }
            Body::Compiled(compiled) => {
                let (batch, logits, seen) =
                    compiled.forward(self.network, self.exchange.as_deref(), x, Hold::Passing)?;
                batch.recycle();
                Ok((logits, seen))
            }
            Body::OnDevice(train) => {
                let (logits, seen) = train.look(&self.network.params().present(), &self.carried(x)?)?;
                Ok((beside(&logits, x)?, seen))
            }
        }
    }

    /// What runs it.
    fn body(&self) -> Result<&Body> {
        let body = match self.body.get() {
            Some(body) => body,
            None => {
                let body = self.compile()?;
                self.body.get_or_init(|| body)
            }
        };
        if self.exchange.is_some() && !matches!(body, Body::Compiled(_)) {
            return Err(Error::Other(
                "processes share a batch in compiled plans on the processor only, and this network runs otherwise; \
                 unset RSLAD_EXEC and the device, or let every process normalize its own images"
                    .into(),
            ));
        }
        Ok(body)
    }

    fn compile(&self) -> Result<Body> {
        let engine = self.engine.map_or_else(Engine::from_environment, Ok)?;
        let network = self.network;
        let compiled = match engine.executor {
            Executor::Plan(isa) if network.dtype() == DType::F32 && network.device().is_cpu() => {
                Compiled::new(network, isa, engine)?
            }
            _ => None,
        };
        Ok(match compiled {
            Some(compiled) => Body::Compiled(compiled),
            None => device::train(engine.executor, network)?.map_or(Body::Reference, Body::OnDevice),
        })
    }

    /// Images that fit, on the network's device.
    fn carried(&self, x: &Tensor) -> Result<Tensor> {
        reference::check_images(self.network.graph(), x)?;
        Ok(x.detach().to_device(self.network.device())?)
    }

    /// Moves the running statistics toward what was seen, by each normalization's momentum or `weight`.
    fn track(&self, seen: &[Seen], weight: Option<f64>) -> Result<()> {
        let _guard = lock(&self.buffers);
        let (nodes, store) = (self.network.graph().nodes(), self.network.params());
        for Seen { node, mean, variance } in seen {
            let Op::BatchNorm { momentum, .. } = nodes[*node].op else { continue };
            let weight = weight.unwrap_or(momentum);
            let first = self.network.graph().first_entry(*node);
            for (entry, batch) in [(first + 2, mean), (first + 3, variance)] {
                let running = store.var(entry);
                running.set(&((running.as_detached_tensor() * (1.0 - weight))? + (batch * weight)?)?)?;
            }
            let counter = store.var(first + 4);
            debug_assert_eq!(store.entries()[first + 4].kind, graph::Kind::Counter);
            counter.set(&(counter.as_detached_tensor() + 1.0)?)?;
        }
        Ok(())
    }
}

/// A network attacked in train mode: see [`Training::attack_view`].
pub struct AttackView<'t> {
    training: &'t Training<'t>,
}

impl Classifier for AttackView<'_> {
    fn n_classes(&self) -> usize {
        self.training.network.graph().n_classes()
    }

    fn device(&self) -> Device {
        self.training.network.device().clone()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (logits, seen) = self.training.look(x)?;
        self.training.track(&seen, None)?;
        Ok(logits)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        let t = self.training;
        let rows: Vec<u32> = (0..x.dim(0)? as u32).collect();
        match t.body()? {
            Body::Reference => {
                let own = Var::from_tensor(&x.detach().to_device(t.network.device())?)?;
                let logits = self.logits(own.as_tensor())?;
                pull_back(&own, &logits, x.device(), objective)
            }
            Body::Compiled(compiled) => {
                let (batch, logits, seen) =
                    compiled.forward(t.network, t.exchange.as_deref(), x, Hold::WayBack)?;
                t.track(&seen, None)?;
                let (loss, dlogits) = objective.value_and_grad(&rows, &logits)?;
                let dlogits = like_logits(&dlogits, &logits)?;
                let machine = compiled.machine(t.network, t.exchange.as_deref());
                let dx =
                    with_values(&dlogits, |d| compiled.run(&machine, || batch.image_gradient(&machine, d)))??;
                Ok(Gradient { logits, loss, dx: Tensor::from_vec(dx, x.shape(), &Device::Cpu)? })
            }
            Body::OnDevice(train) => {
                let (way, own, seen) = train.forward(&t.network.params().present(), &t.carried(x)?)?;
                t.track(&seen, None)?;
                let logits = beside(&own, x)?;
                let (loss, dlogits) = objective.value_and_grad(&rows, &logits)?;
                let dx = way.image_gradient(&beside(&like_logits(&dlogits, &logits)?, &own)?)?;
                Ok(Gradient { logits, loss, dx: beside(&dx, x)? })
            }
        }
    }
}

/// The derivative by the logits, in their type; an error when it is not shaped like them.
fn like_logits(dlogits: &Tensor, logits: &Tensor) -> Result<Tensor> {
    if dlogits.dims() != logits.dims() {
        return Err(Error::Shape {
            what: "the derivative by the logits".into(),
            got: dlogits.dims().to_vec(),
            expected: format!("{:?}, as the logits have", logits.dims()),
        });
    }
    Ok(dlogits.detach().to_dtype(logits.dtype())?)
}

impl Compiled {
    /// `None` when the graph has an op without a kernel.
    fn new(network: &Network, isa: Isa, engine: Engine) -> Result<Option<Self>> {
        let Some(plans) = Plans::new(network.graph(), Mode::Train) else { return Ok(None) };
        Ok(Some(Self { isa, threads: Threads::new(engine.threads)?, plans, packed: Mutex::default() }))
    }

    fn machine<'a>(&'a self, network: &'a Network, exchange: Option<&'a dyn Exchange>) -> Machine<'a> {
        Machine { isa: self.isa, graph: network.graph(), program: &self.plans.program, exchange }
    }

    /// Runs a pass on the threads of the pool; one that waits for other processes keeps none of them waiting.
    fn run<R: Send>(&self, machine: &Machine<'_>, pass: impl FnOnce() -> R + Send) -> R {
        match machine.exchange {
            None => self.threads.within(pass),
            Some(_) => pass(),
        }
    }

    fn forward(
        &self,
        network: &Network,
        exchange: Option<&dyn Exchange>,
        x: &Tensor,
        hold: Hold,
    ) -> Result<(Batch, Tensor, Vec<Seen>)> {
        let graph = network.graph();
        reference::check_images(graph, x)?;
        let (n, _, h, w) = x.dims4()?;
        let plan = self.plans.get(graph, h, w)?;
        let trained = self.trained(network, n, (h, w))?;
        let weights = self.weights(network)?;
        let machine = self.machine(network, exchange);
        let (mut batch, moments) = with_values(x, |pixels| {
            self.run(&machine, || machine.forward(plan, weights, &self.threads, (pixels, n), hold, &trained))
        })??;
        let logits = Tensor::from_vec(batch.logits(&machine), (n, graph.n_classes()), &Device::Cpu)?;
        Ok((batch, logits, moments.iter().map(seen).collect::<Result<_>>()?))
    }

    /// Weight and bias of the normalization in each step that is one.
    fn trained(&self, network: &Network, n: usize, (h, w): (usize, usize)) -> Result<Vec<Option<Trained>>> {
        let (graph, store) = (network.graph(), network.params());
        let shapes = graph.shapes(h, w)?;
        let values = |entry: usize| with_values(&store.var(entry).as_detached_tensor(), <[f32]>::to_vec);
        let of_step = |step: &super::program::Step| {
            let Kind::Norm(node) = step.kind else { return Ok(None) };
            let Op::BatchNorm { eps, .. } = graph.nodes()[node].op else { return Ok(None) };
            let [c, h, w] = shapes[node];
            reference::check_count(&graph.nodes()[node], [n, c, h, w])?;
            let first = graph.first_entry(node);
            Ok(Some(Trained { weight: values(first)?, bias: values(first + 1)?, eps }))
        };
        self.plans.program.steps.iter().map(of_step).collect()
    }

    /// The packed weights, packed again only if a parameter has changed.
    fn weights(&self, network: &Network) -> Result<Arc<Weights>> {
        let (graph, store, program) = (network.graph(), network.params(), &self.plans.program);
        let params = store.present();
        let mut packed = lock(&self.packed);
        let packed = packed.get_or_insert_with(|| Arc::new(Weights::new(graph, program, self.isa)));
        self.threads.within(|| match packed.hold(program, &params, &self.threads)? {
            true => Ok(()),
            false => Arc::make_mut(packed).fill(graph, program, &params, &self.threads),
        })?;
        Ok(Arc::clone(packed))
    }
}

fn seen(moments: &Moments) -> Result<Seen> {
    let tensor = |values: Vec<f32>| Tensor::new(values, &Device::Cpu);
    let unbiased = moments.count as f64 / (moments.count - 1) as f64;
    Ok(Seen {
        node: moments.node,
        mean: tensor(moments.mean.iter().map(|&m| m as f32).collect())?,
        variance: tensor(moments.variance.iter().map(|&v| (v * unbiased) as f32).collect())?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
