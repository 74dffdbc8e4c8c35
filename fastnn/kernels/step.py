"""Steps of training, and the forward pass over many rows.

Who does what. The weights of a hidden layer, its activations and its gradient are cut into the same panels of units,
and each belongs to one thread (`owned`). The output layer's weights are cut by inputs, so that their owner is that of
the activations they meet. A thread writes what it owns and nothing else, and waits at a `barrier` only before it reads
what others write (the activations below a hidden layer, the parts of the logits, the gradient above a hidden layer), or
changes what others read. What all threads need of a batch, its examples and its loss, each computes for itself: that
is cheaper than a barrier.

When weights change. In plain SGD the gradient of the logits carries −rate / n (`gradient_scale`), and `net.gradient` is
`net.parameters`: adding the weight gradient *is* the update. Other rules have a buffer for the gradient, and
`update_panel` makes a step of it. Where only its owner reads a panel, it changes in `backward`; that is so for layers
that read the examples, and for the output layer. All threads read the other weights there (`pass_gradient`), so these
are late: they change in the next step, after the barrier before their layer, just before they are read again.

Steps take two copies of the activations in turn, because a late update reads those of its own step when those of the
next are there already; and two of the parts of the logits, because where a step has a single barrier (one hidden layer,
or none) a fast thread may write the next ones while others still add these.

What a run may be without (a rule, lists, an activation) is passed beside the tuple that holds it: Numba leaves out a
branch on ``is None`` for arguments only.
"""

import math

from fastnn.kernels import clock as phase
from fastnn.kernels.barrier import Team, barrier, owned, stopped
from fastnn.kernels.batch import batch_at, gather, load
from fastnn.kernels.clock import mark
from fastnn.kernels.jit import jit, kernel
from fastnn.kernels.layers import add_weight_gradient, forward, pass_gradient
from fastnn.kernels.losses import loss_gradient
from fastnn.kernels.memory import EXAMPLES, below, gradient_of, layer_at, open_batch, output_at
from fastnn.kernels.optimizers import Step
from fastnn.kernels.output import (
    output_bias_gradient,
    output_input_gradient,
    output_weight_gradient,
    partial_logits,
    sum_logits,
)
from fastnn.kernels.updates import clip_and_update, clips, gradient_scale, update_panel


@kernel
def train_steps(net, data, work, span, totals, team):
    """Steps `first` to `last` of an epoch: w −= rate · gradient of the mean loss of each batch, or what the rule says.

    Adds the summed loss and the number of right answers to `totals` (2,). Returns the step it came to: `last`, or the
    one whose loss was not finite, or in which the team was stopped. Every product is computed by the owner of its
    panel, every sum in a fixed order, so no bit depends on the number of threads.
    """
    for step in range(span.first, span.last):
        batch = batch_at(net, data, work, span, step, team)
        load(data, work, batch, batch.start, batch.n)
        for i in range(net.layers.size - 1):  # z = x @ w + b,  a = f(z)
            layer = layer_at(net, work, batch, i, team)
            if layer.reads != EXAMPLES:
                barrier(team)  # x is complete, and all have done the last step's `pass_gradient`, which reads w
                mark(work.clock, team.thread, phase.WAITING)
                if step > span.first:
                    late_update(net, data, work, span, step - 1, i, team)
                    mark(work.clock, team.thread, phase.HIDDEN_BACK)
            forward(layer, batch, batch.lists, net.activation, i)
            mark(work.clock, team.thread, phase.FIRST if layer.reads == EXAMPLES else phase.HIDDEN)
        logits(net, work, batch, team)
        loss, right = loss_gradient(
            data.targets, data.order, net, batch, gradient_scale(net.rule, span.rates[step], batch.n)
        )
        mark(work.clock, team.thread, phase.SOFTMAX)
        if not math.isfinite(loss) or stopped(team):  # the loss has the same bits on every thread: none is left waiting
            return step
        if team.thread == 0:
            totals[0] += loss
            totals[1] += right
        backward(net, work, batch, step_at(span, step), team)
        update_clipped(net.rule, net, work, batch, step_at(span, step), team)
    if span.last > span.first and net.layers.size > 2:  # where some layer is late
        barrier(team)  # all threads have passed the last step's gradient
        for i in range(net.layers.size - 1):  # what the next step would have begun with
            late_update(net, data, work, span, span.last - 1, i, team)
    return span.last


@jit
def step_at(span, step):
    """The learning rate of a step, its number since the run began, and how much penalties count in it."""
    if span.penalties.size == 0:
        return Step(span.rates[step], span.before + step + 1, 1.0, 1.0, 1.0)
    return Step(span.rates[step], span.before + step + 1, 1.0, span.penalties[step, 0], span.penalties[step, 1])


@jit
def logits(net, work, batch, team):
    """batch.z = x @ w + b of the output layer: a part from each panel of inputs, then every thread sums all."""
    output, scratch = output_at(net, work, batch, team), batch.scratch[0]
    partial_logits(output.x, output.w, output.b, output.inputs, batch.rows, scratch, output.parts, output.own)
    mark(work.clock, team.thread, phase.OUTPUT)
    barrier(team)  # all parts are there
    mark(work.clock, team.thread, phase.WAITING)
    sum_logits(output.parts, output.w.shape[0], batch.rows, batch.z)
    mark(work.clock, team.thread, phase.OUTPUT)


@jit
def backward(net, work, batch, now, team):
    """The gradient of every layer's z; gradient and update of the weights that are not late.

    A layer that reads the examples needs no barrier: each thread wrote the gradient of its own panels.
    """
    top = net.layers.size - 1
    backward_output(net, work, batch, now, team)
    mark(work.clock, team.thread, phase.OUTPUT_BACK)
    for i in range(top - 1, -1, -1):
        layer = layer_at(net, work, batch, i, team)
        if layer.reads == EXAMPLES:
            add_weight_gradient(layer, batch, batch.lists, layer.own)  # in plain SGD this is the update
            update_own(net, i, layer.own, now, batch.scratch)
            mark(work.clock, team.thread, phase.FIRST_BACK)
        else:
            barrier(team)  # dz is complete, and so are all late updates of w
            mark(work.clock, team.thread, phase.WAITING)
            dz_below = gradient_of(work, layer.reads)
            pass_gradient(layer, batch, below(net, work, batch, i), dz_below, owned(dz_below.shape[0], team))
            mark(work.clock, team.thread, phase.HIDDEN_BACK)


@jit
def backward_output(net, work, batch, now, team):
    """The same of the output layer, whose weights are owned by panels of inputs."""
    output, top = output_at(net, work, batch, team), net.layers.size - 1
    if top > 0:
        dz_below, under = gradient_of(work, net.layers[top].reads), below(net, work, batch, top)
        output_input_gradient(batch.dz, output.w, output.classes, batch.rows, dz_below, output.own, under)
    # only now may w change
    output_weight_gradient(output.x, batch.dz, batch.n, output.dw, output.own)
    if output.own[0] == 0 and output.own[1] > 0:  # it owns panel 0 (a thread may own nothing), and with it the bias
        output_bias_gradient(batch.dz, batch.n, output.classes, output.db)
    update_own(net, top, output.own, now, batch.scratch)


@jit
def update_own(net, i, own, now, scratch):
    """Update some panels of a layer, unless the gradient is to be clipped first."""
    if not clips(net.rule):
        for p in range(own[0], own[1]):
            update_panel(net.rule, net, i, p, now, scratch)


@jit
def late_update(net, data, work, span, step, i, team):
    """What `backward` of a step has left to do for layer `i`: panel by panel, so that each stays in the cache."""
    batch = batch_at(net, data, work, span, step, team)  # of it, only activations and dz are that step's still
    layer = layer_at(net, work, batch, i, team)
    if layer.reads != EXAMPLES and not clips(net.rule):
        for p in range(layer.own[0], layer.own[1]):
            add_weight_gradient(layer, batch, batch.lists, (p, p + 1))
            update_panel(net.rule, net, i, p, step_at(span, step), batch.scratch)


@jit
def update_clipped(rule, net, work, batch, now, team):
    """Where the gradient is clipped, all updates wait until all of it is known. Plain SGD compiles none of this."""
    if rule is None:
        return
    if clips(rule):
        add_late_gradients(net, work, batch, team)
        clip_and_update(rule, net, now, batch.scratch, team)
        mark(work.clock, team.thread, phase.HIDDEN_BACK)


@jit
def add_late_gradients(net, work, batch, team):
    """The gradients of weights that `backward` has left for later."""
    for i in range(net.layers.size - 1):
        layer = layer_at(net, work, batch, i, team)
        if layer.reads != EXAMPLES:
            add_weight_gradient(layer, batch, batch.lists, layer.own)


@kernel
def predict_logits(net, data, work, span, out, team):
    """out[i, :] = logits of row order[i], for i from `first` to `last`.    out (N, C)

    Blocks of `batch` rows are dealt to the threads in turn, each with a copy of the work's memory to itself. A row's
    bits depend on that row alone.
    """
    alone = Team(team.sync, 0, 1)
    for start in range(span.first + team.thread * span.batch, span.last, team.threads * span.batch):
        batch = open_batch(net, work, start, min(span.batch, span.last - start), 0, team.thread, team.thread)
        gather(data, start, batch.n, batch.rows, batch.x)
        for i in range(net.layers.size - 1):
            forward(layer_at(net, work, batch, i, alone), batch, None, net.activation, i)
        logits(net, work, batch, alone)
        width = batch.z.shape[2]
        for k in range(batch.n):
            for c in range(out.shape[1]):
                out[start + k, c] = batch.z[k // width, c, k % width]
    return span.last
