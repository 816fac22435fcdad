//! What is wrong in a recipe is said with the recipe, key, value, expectation and fix.

use super::parse;
use crate::common::micro::MICRO;

/// A part of a recipe, what takes its place, and what is said of that.
const EDITS: &[(&str, &str, &str)] = &[
    // Keys that are not there, and keys that should not be.
    ("seed = 7\n", "", "`seed` is missing, expected a value such as "),
    ("lr = 0.1\n", "", "`optim.lr` is missing, expected a value such as "),
    ("eps = 0.15\nstep_size", "step_size", "`inner.eps` is missing, expected a value such as "),
    ("flip = \"horizontal\"", "", "`data.augment.flip` is missing, expected a value such as "),
    ("arch = \"tiny_cnn\"\n", "", "`student.arch` is missing, expected a value such as "),
    ("kl_scale = 1.0", "", "`method.kl_scale` is missing, expected a value such as "),
    ("name = \"rslad\"", "", "`method.name` is missing, expected one of: natural, sat,"),
    ("width = 2\n", "", "[student] architecture `tiny_cnn`: missing field `width`"),
    ("[optim]", "[optimizer]", "`optimizer` is unknown, expected one of `about`, `seed`,"),
    (
        "momentum = 0.9",
        "nesterov = true",
        "`optim.nesterov` is unknown, expected one of `lr`, `momentum`, `weight_decay`; remove",
    ),
    (
        "flip = \"horizontal\"",
        "flip = \"horizontal\", rotate = 3",
        "`data.augment.rotate` is unknown, expected `crop` or `flip`",
    ),
    (
        "alpha = 0.8333333333333334",
        "aplha = 0.8",
        "`method.aplha` is unknown, expected `alpha` or `kl_scale`",
    ),
    ("width = 2", "widht = 8", "[student] architecture `tiny_cnn`: unknown field `widht`"),
    ("by = \"robust\"\n", "", "`select.by` is missing, expected a value such as "),
    (
        "batch = 32\n",
        "batch = 32\nmicro_batch = 16\n[awp]\ngamma = 0.01\nwarmup = 0\n[data.x]\n",
        "`data.x` is unknown",
    ),
    // Sections that the method does or does not need.
    (
        "[teacher]\nfile = \"a teacher made by the test\"",
        "",
        "`[teacher]` is missing, but method rslad needs it; add it",
    ),
    (
        "[optim]",
        "[second_teacher]\nfile = \"x\"\n[optim]",
        "`[second_teacher]` is given, but method rslad does not read it; remove it",
    ),
    (
        "name = \"rslad\"\nalpha = 0.8333333333333334\nkl_scale = 1.0",
        "name = \"sat\"",
        "`[teacher]` is given, but method sat does not read it; remove it",
    ),
    // Where it is computed.
    (
        "[optim]",
        "[device]\non = \"gpu\"\nstudent = \"f32\"\nteacher = \"f32\"\n[optim]",
        "`device.on` is \"gpu\", expected cpu, cuda or cuda:N such as cuda:1",
    ),
    (
        "[optim]",
        "[device]\non = \"cuda\"\nstudent = \"fp8\"\nteacher = \"f32\"\n[optim]",
        "`device.student` is \"fp8\", expected one of `f32`, `tf32`, `bf16`",
    ),
    (
        "[optim]",
        "[device]\non = \"cuda\"\nteacher = \"f32\"\n[optim]",
        "`device.student` is missing, expected",
    ),
    // Names that nothing has.
    ("\"rslad\"", "\"rslda\"", "`method.name` is \"rslda\", expected one of: natural, sat,"),
    ("\"tiny_cnn\"", "\"resnet19\"", "[student] unknown architecture `resnet19`, expected one of: resnet18,"),
    ("\"select\"", "\"slect\"", "`select.suite`: unknown suite `slect`, expected one of: quick, select"),
    (
        "\"project_clamp\"",
        "\"sideways\"",
        "`inner.order` is \"sideways\", expected `clamp_project` or `project_clamp`",
    ),
    (
        "\"gaussian\"",
        "\"normal\"",
        "`inner.start` is \"normal\", expected one of `natural`, `uniform`, `gaussian`",
    ),
    ("\"frozen\"", "\"train\"", "`inner.view` is \"train\", expected `frozen` or `batch_statistics`"),
    ("\"validation\"", "\"train\"", "`select.on` is \"train\", expected `validation` or `test`"),
    // Values of the wrong type.
    ("lr = 0.1", "lr = \"high\"", "`optim.lr` is \"high\", expected a number, such as "),
    ("seed = 7", "seed = -1", "`seed` is -1, expected a whole number from 0 to 2^63 - 1, such as "),
    (
        "steps = 2",
        "steps = 2.5",
        "`inner.steps` is 2.5, expected a whole number from 0 to 2^63 - 1, such as ",
    ),
    ("crop = 1", "crop = 300", "`data.augment.crop` is 300, expected a whole number from 0 to 255, such as "),
    ("set = \"digits\"", "set = 3", "`data.set` is 3, expected a quoted string, such as "),
    ("drops = [2, 3]", "drops = 8", "`schedule.drops` is 8, expected a list, such as "),
    ("drops = [2, 3]", "drops = [2, \"end\"]", "`schedule.drops` is [2, \"end\"], expected"),
    (
        "augment = { crop = 1, flip = \"horizontal\" }",
        "augment = \"none\"",
        "`data.augment` is \"none\", expected a section",
    ),
    // Radii and steps.
    (
        "eps = 0.15\nstep",
        "eps = \"8\"\nstep",
        "`inner.eps` is \"8\", expected a fraction or a decimal in (0, 1], the images being in [0, 1]; write \"8/255\"",
    ),
    (
        "eps = 0.15\nstep",
        "eps = 8\nstep",
        "`inner.eps` is 8, expected a fraction or a decimal in (0, 1], the images being in [0, 1]; write \"8/255\"",
    ),
    ("eps = 0.15\nstep", "eps = 0\nstep", "`inner.eps` is 0, expected a fraction or a decimal in (0, 1]"),
    ("eps = 0.15\non", "eps = 1.5\non", "`select.eps` is 1.5, expected a fraction or a decimal in (0, 1]"),
    (
        "\"eps/2\"",
        "\"eps*4\"",
        "`inner.step_size` is \"eps*4\", expected the radius or a share of it, such as",
    ),
    (
        "\"eps/2\"",
        "0.31",
        "`inner.step_size` is 0.31 at eps 0.15, expected above 0 and at most twice the radius",
    ),
    ("\"eps/2\"", "-0.01", "`inner.step_size` is -0.01, expected"),
    // Values outside their domain.
    ("steps = 2", "steps = 0", "`inner.steps` is 0, expected 1 to 10000"),
    (
        "start_std = 0.001",
        "start_std = 0.0",
        "`inner.start_std` is 0, expected above 0 and at most 1; write 0.001",
    ),
    ("start_std = 0.001", "start_std = nan", "`inner.start_std` is NaN, expected above 0 and at most 1"),
    (
        "start = \"gaussian\"",
        "start = \"natural\"",
        "`inner.start_std` is 0.001, expected 0 unless `start = \"gaussian\"`",
    ),
    (
        "alpha = 0.8333333333333334",
        "alpha = 5",
        "`method.alpha` is 5, expected 0 to 1; the keys of rslad: alpha (5/6), kl_scale",
    ),
    ("lr = 0.1", "lr = 0", "`optim.lr` is 0, expected above 0"),
    ("lr = 0.1", "lr = inf", "`optim.lr` is inf, expected above 0"),
    ("momentum = 0.9", "momentum = 1.0", "`optim.momentum` is 1, expected 0 to below 1"),
    ("weight_decay = 2e-4", "weight_decay = -1e-4", "`optim.weight_decay` is -0.0001, expected 0 or more"),
    ("epochs = 4", "epochs = 0", "`schedule.epochs` is 0, expected at least 1"),
    ("warmup = 1.5", "warmup = 13", "`schedule.warmup` is 13, expected 0 to 4 epochs"),
    ("drops = [2, 3]", "drops = [3, 2]", "`schedule.drops` is [3, 2], expected ascending epochs from 1"),
    ("drops = [2, 3]", "drops = [0, 3]", "`schedule.drops` is [0, 3], expected ascending epochs from 1"),
    ("factor = 0.5", "factor = 10", "`schedule.factor` is 10, expected above 0 and at most 1"),
    ("batch = 32", "batch = 1", "`data.batch` is 1, expected 2 to 100000"),
    ("crop = 1", "crop = 65", "`data.augment.crop` is 65, expected 0 to 64 pixels"),
    ("every = 2", "every = 0", "`select.every` is 0, expected 1 or more epochs"),
    (
        "every = 2",
        "every = { first = 20, from = 215, then = 0 }",
        "`select.every.then` is 0, expected 1 or more epochs",
    ),
    (
        "every = 2",
        "every = { first = 20, then = 1 }",
        "`select.every`: expected a number of epochs, or { first = 20, from = 215, then = 1 }",
    ),
    (
        "hold_out = 20",
        "hold_out = 0",
        "`select.hold_out` is 0, expected the number of training images to hold out",
    ),
    ("on = \"validation\"", "on = \"test\"", "`select.hold_out` is 20, expected 0 with `on = \"test\"`"),
    ("width = 2", "width = 0", "[student] architecture `tiny_cnn`: `width` is 0, expected 1..=4096"),
    // Not TOML at all.
    ("[optim]", "[optim", "not TOML: TOML parse error at line 36, column 7"),
    ("seed = 7", "seed = 7\nseed = 1", "not TOML: TOML parse error at line 4"),
];

#[test]
fn an_error_names_recipe_key_value_and_expectation() {
    for (part, other, expected) in EDITS {
        assert_eq!(MICRO.matches(part).count(), 1, "{part}");
        let error = parse(&MICRO.replace(part, other), &[]).expect_err(other).to_string();
        assert!(error.starts_with(&format!("mine.toml: {expected}")), "{error}\nexpected {expected}");
    }
}

/// Changes of the command line that do not work, and what is said of them.
const CHANGES: &[(&str, &str, &str)] = &[
    ("inner.eps", "8", "`inner.eps` is 8, expected a fraction or a decimal in (0, 1]"),
    ("inner.epss", "8/255", "`inner.epss` is unknown, expected one of `eps`, `step_size`,"),
    ("method.kl_scale", "x", "`method.kl_scale` is \"x\", expected a number, such as "),
    (
        "seed",
        "18446744073709551615",
        "`seed` is \"18446744073709551615\", expected a whole number from 0 to 2^63 - 1",
    ),
    ("seed.b", "3", "`seed.b` cannot be set: `seed` is a value, expected a section; write seed=3"),
    ("schedule.drops", "1,2", "`schedule.drops` is \"1,2\", expected a list, such as"),
    ("average.decay", "0.9", "`average.decay` is unknown, expected `ema` or `swa`"),
    ("average", "{}", "`[average]` is empty, expected `[average.ema]` or `[average.swa]`; add one"),
    ("average.ema.decay", "0.9", "`average.ema.batch_norm` is missing"),
    (
        "average.ema",
        "{ decay = 1.0, batch_norm = 'averaged' }",
        "`average.ema.decay` is 1, expected above 0 and below 1; write 0.995",
    ),
    ("average.swa", "{ from = 5, batch_norm = 'reestimated' }", "`average.swa.from` is 5, expected 1 to 4"),
    (
        "average.swa",
        "{ from = 2, batch_norm = 'fresh' }",
        "`average.swa.batch_norm` is \"fresh\", expected `averaged` or `reestimated`",
    ),
    ("awp.gamma", "0.1", "`awp.warmup` is missing"),
    ("awp", "{ gamma = 0.0, warmup = 0 }", "`awp.gamma` is 0, expected above 0 and at most 1; write 0.005"),
    (
        "parallel",
        "{ shards = 2 }",
        "`parallel`: expected { shards = 8, running = \"first\" } or { batch_norm = \"synchronized\" }",
    ),
    ("parallel", "{ shards = 0, running = 'first' }", "`parallel.shards` is 0, expected 1 to 4096"),
    ("data.micro_batch", "1", "`data.micro_batch` is 1, expected 2 to 32 (`data.batch`)"),
    ("data.micro_batch", "33", "`data.micro_batch` is 33, expected 2 to 32 (`data.batch`)"),
    ("select.by", "clean", "`select.by` is \"clean\", expected `robust` or `loss`"),
    ("student.width", "0", "[student] architecture `tiny_cnn`: `width` is 0"),
    ("about", "1\nseed = 2", "`about`"),
    ("inner", "{}", "`inner.eps` is missing"),
    ("inner", "none", "`inner` is \"none\", expected a section"),
    ("", "3", "`` is no key, expected one such as `optim.lr`; write optim.lr=0.1"),
    ("inner.", "3", "`inner.` is no key"),
    (".seed", "3", "`.seed` is no key"),
    ("inner..eps", "3", "`inner..eps` is no key"),
];

#[test]
fn a_change_that_does_not_work_is_told_as_well() {
    for (key, value, expected) in CHANGES {
        let changed = parse(MICRO, &[(key, value)]);
        if *key == "about" {
            assert_eq!(changed.unwrap().about, *value, "a value is never more than one value");
            continue;
        }
        let error = changed.expect_err(key).to_string();
        assert!(error.starts_with(&format!("mine.toml: {expected}")), "{error}\nexpected {expected}");
    }
}
