//! The prices of docs/aws.md, which states their source: AWS's price list for us-east-1 in US dollars. A test compares them.

pub(super) const HOUR: f64 = 3600.0;
/// AWS counts the hours of a month of the mean length as 730.
pub(super) const MONTH: f64 = 730.0 * HOUR;
pub(super) const MILLION: f64 = 1e6;

/// An hour of a c7i.large. It is also the most that an hour of its spot instances costs: unless a request states another
/// price, EC2 ends them rather than charge more than for on-demand ones ("Spot Instance requests").
pub(super) const P_WORKER: f64 = 0.08925;
/// An hour of a public IPv4 address.
pub(super) const P_IP: f64 = 0.005;
/// A GB-month of gp3.
pub(super) const P_DISK: f64 = 0.08;
/// A million requests to FIFO queues, and to standard queues.
pub(super) const P_SQS: f64 = 0.50;
pub(super) const P_SQS_STANDARD: f64 = 0.40;
/// A million calls of S3: PUT and LIST; GET.
pub(super) const P_PUT: f64 = 5.00;
pub(super) const P_GET: f64 = 0.40;

/// The shortest time for which a start of an instance, an address or a disk is billed ("Amazon EC2 pricing": per second,
/// with a minimum of 60 seconds).
pub(super) const MINIMUM: f64 = 60.0;
/// A payload of SQS is billed as one request for each 64 KiB that it begins ("Amazon SQS pricing").
pub(super) const SQS_CHUNK: usize = 64 * 1024;
