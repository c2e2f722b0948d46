//! The events of the simulation.

use super::{Time, instances::BootId, traces::JobIndex};
use rollcall_fleet::{Action, Event, InstanceState};

/// An event in the simulated cloud.
///
/// An event with a [`BootId`] is ignored if the instance has been booted again or shut down since it was scheduled.
/// Large contents are boxed, because the event queue moves events many times.
pub enum SimEvent {
    /// A client uploads a job.
    Arrival(JobIndex),
    /// A web node repeats a call that was refused. The job is that of its first message.
    Resend(JobIndex),
    /// The job's message is visible in the queue.
    Visible(JobIndex),
    /// The client has its response.
    Answered { boot: BootId, job: JobIndex },
    /// The visibility timeout of a job has expired after a crash.
    VisibilityExpired(JobIndex),
    /// A worker receives again after a call that was refused.
    PauseOver(BootId),
    /// A worker deletes the messages of its finished jobs.
    DeleteDue(BootId),
    /// A worker thread has finished a job.
    Finished { boot: BootId, job: JobIndex },
    /// The instance crashes while it works on a job.
    Crashed(BootId),
    /// The worker, idle since `idle_since`, checks whether to stop its instance.
    IdleCheck { boot: BootId, idle_since: Time },
    /// The instance reaches another state.
    StateChange { boot: BootId, to: InstanceState },
    /// The operating system is up; the worker is not yet.
    Booted(BootId),
    /// The worker takes jobs from now on.
    Ready(BootId),
    /// The worker's call to stop its own instance arrives at EC2.
    StopRequest(BootId),
    /// An API call of the controller arrives.
    CallArrives(Box<Action>),
    /// The answer to an API call arrives at the controller.
    AnswerArrives(Box<Event>),
    /// The controller may have asked to be woken now; ignored unless its last step did.
    WakeUp,
}
