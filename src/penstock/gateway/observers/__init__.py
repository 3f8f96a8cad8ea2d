"""Observers of finished calls: one class each, listed where the gateway is wired."""

from penstock.gateway.observers.access_log import AccessLog
from penstock.gateway.observers.decision_log import DecisionLog
from penstock.gateway.observers.failure_log import FailureLog
from penstock.gateway.observers.metrics_recorder import MetricsRecorder
from penstock.gateway.observers.session_affinity import SessionRecorder
from penstock.gateway.observers.throughput_learner import ThroughputLearner

__all__ = ["AccessLog", "DecisionLog", "FailureLog", "MetricsRecorder", "SessionRecorder", "ThroughputLearner"]
