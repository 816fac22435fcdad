//! Two classifiers attacked as one: their logits side by side, the gradient through both.

use candle_core::{Device, Tensor};
use rslad_models::{Classifier, Gradient, Objective, Result};

/// Student and teacher as one classifier with logits `[N, K_student + K_teacher]`, for attacks whose
/// objective looks at both, such as AdaAD's.
pub struct Pair<'c> {
    student: &'c dyn Classifier,
    teacher: &'c dyn Classifier,
}

impl<'c> Pair<'c> {
    /// These two, in this order.
    pub fn new(student: &'c dyn Classifier, teacher: &'c dyn Classifier) -> Self {
        Self { student, teacher }
    }
}

impl Classifier for Pair<'_> {
    fn n_classes(&self) -> usize {
        self.student.n_classes() + self.teacher.n_classes()
    }

    fn device(&self) -> Device {
        self.student.device()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&[self.student.logits(x)?, self.teacher.logits(x)?], 1)?)
    }

    /// One forward of each to see the logits, then one pull-back through each. The student's comes
    /// from one forward only, so that a train-mode view moves its statistics once.
    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        let teacher_logits = self.teacher.logits(x)?;
        let seen = std::sync::Mutex::new(None);
        let through_student = StudentSide { objective, teacher_logits: &teacher_logits, seen: &seen };
        let student = self.student.gradient(x, &through_student)?;
        let rows = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).unwrap_or_default();
        let teacher = self.teacher.gradient(x, &Given { rows })?;
        Ok(Gradient {
            logits: Tensor::cat(&[student.logits, teacher_logits], 1)?,
            loss: student.loss,
            dx: (student.dx + teacher.dx)?,
        })
    }
}

/// Derivatives with respect to the teacher's logits, one `[1, K]` per row of the batch.
type ByRow = std::collections::BTreeMap<u32, Tensor>;

/// The objective as the student sees it; sets aside the teacher's part of the derivative.
struct StudentSide<'a> {
    objective: &'a dyn Objective,
    teacher_logits: &'a Tensor,
    seen: &'a std::sync::Mutex<Option<ByRow>>,
}

impl Objective for StudentSide<'_> {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let index = Tensor::new(rows, logits.device())?;
        let k = logits.dim(1)?;
        let both = Tensor::cat(&[logits, &self.teacher_logits.index_select(&index, 0)?], 1)?;
        let (value, grad) = self.objective.value_and_grad(rows, &both)?;
        let for_teacher = grad.narrow(1, k, grad.dim(1)? - k)?;
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let by_row = seen.get_or_insert_with(ByRow::new);
        for (i, &row) in rows.iter().enumerate() {
            by_row.insert(row, for_teacher.narrow(0, i, 1)?);
        }
        Ok((value, grad.narrow(1, 0, k)?.contiguous()?))
    }
}

/// An objective whose derivative is already known.
struct Given {
    rows: ByRow,
}

impl Objective for Given {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let grads: Vec<&Tensor> = rows.iter().filter_map(|row| self.rows.get(row)).collect();
        Ok((logits.sum(1)?.zeros_like()?, Tensor::cat(&grads, 0)?))
    }
}
