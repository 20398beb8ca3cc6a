"""Where a stage is at any simulated time: constant-acceleration moves, exactly."""

import math
from bisect import bisect_right
from dataclasses import dataclass

# Segments ended this long ago are forgotten: frames are drawn within it.
_MEMORY_S = 3600.0
# A position on the seam of two segments must not fall between them by rounding:
# a double holds the Unix time to 0.24 us.
_SEAM_S = 1e-6


@dataclass(frozen=True)
class Segment:
    """Motion at constant acceleration from `start_s` until the next segment."""

    start_s: float
    position: float
    velocity: float
    acceleration: float

    def position_at(self, time_s: float) -> float:
        """Return the position at `time_s`."""
        t = time_s - self.start_s
        return self.position + t * (self.velocity + 0.5 * self.acceleration * t)

    def velocity_at(self, time_s: float) -> float:
        """Return the velocity at `time_s`."""
        return self.velocity + self.acceleration * (time_s - self.start_s)


class Axis:
    """One stage: run-up, constant speed and run-down, computed and not stepped.

    Parameters
    ----------
    position : float
        Where it stands at the beginning.
    """

    def __init__(self, position: float = 0.0) -> None:
        self._segments = [Segment(-math.inf, position, 0.0, 0.0)]
        self.stalled = False

    def position_at(self, time_s: float) -> float:
        """Return the position at a simulated time, past or (as planned) to come."""
        segment = self._segment_at(time_s)
        if math.isinf(segment.start_s):
            return segment.position
        return segment.position_at(time_s)

    def velocity_at(self, time_s: float) -> float:
        """Return the velocity at a simulated time."""
        segment = self._segment_at(time_s)
        if math.isinf(segment.start_s):
            return 0.0
        return segment.velocity_at(time_s)

    @property
    def end_s(self) -> float:
        """When the stage comes to rest, as planned now."""
        return self._segments[-1].start_s

    def move_to(
        self, target: float, at_s: float, velocity: float, acceleration: float
    ) -> float:
        """Plan a move that begins at `at_s`; return when it will end.

        A stage that is moving is taken over as it is: it goes on if the target can be
        reached without turning, else it brakes first.
        """
        if velocity <= 0 or acceleration <= 0:
            raise ValueError(
                f"velocity is {velocity}, acceleration {acceleration}; "
                "both must be above 0"
            )
        if self.stalled:
            return self.end_s
        x, v = self.position_at(at_s), self.velocity_at(at_s)
        plan: list[tuple[float, float]] = []  # (duration, acceleration)
        braking = v * v / (2 * acceleration)
        direction = math.copysign(1.0, target - x)
        if v and (math.copysign(1.0, v) != direction or braking > abs(target - x)):
            plan.append((abs(v) / acceleration, -math.copysign(acceleration, v)))
            x += math.copysign(braking, v)
            v = 0.0
            direction = math.copysign(1.0, target - x)
        distance, speed = abs(target - x), abs(v)
        peak = min(velocity, math.sqrt(acceleration * distance + 0.5 * speed**2))
        if peak > 0:
            change = direction * math.copysign(acceleration, peak - speed)
            run_up_s = abs(peak - speed) / acceleration
            run_down_s = peak / acceleration
            cruise = distance - 0.5 * (speed + peak) * run_up_s
            cruise -= 0.5 * peak * run_down_s
            plan.append((run_up_s, change))
            plan.append((max(cruise, 0.0) / peak, 0.0))
            plan.append((run_down_s, -direction * acceleration))
        return self._replan(at_s, plan, target)

    def stop(self, at_s: float, acceleration: float) -> float:
        """Brake from `at_s` on; return when the stage will stand."""
        v = self.velocity_at(at_s)
        if self.stalled or not v:
            return self._replan(at_s, [], self.position_at(at_s))
        plan = [(abs(v) / acceleration, -math.copysign(acceleration, v))]
        return self._replan(at_s, plan, None)

    def stall(self, at_s: float) -> None:
        """Let the stage stand where it is, deaf to moves, until `free`."""
        self._replan(at_s, [], self.position_at(at_s))
        self.stalled = True

    def free(self) -> None:
        """Let a stalled stage move again."""
        self.stalled = False

    def crossing_s(
        self, position: float, after_s: float, direction: int
    ) -> float | None:
        """Return when the plan first passes `position` in `direction` after a time.

        A stage that stands at `position` when it sets off passes it at that moment.
        """
        starts = [s.start_s for s in self._segments]
        first = max(bisect_right(starts, after_s) - 1, 0)
        for number in range(first, len(self._segments)):
            segment = self._segments[number]
            last = number + 1 == len(self._segments)
            if last or math.isinf(segment.start_s):
                continue  # at rest
            end_s = self._segments[number + 1].start_s
            time_s = _crossing(segment, position, direction, after_s)
            if time_s is not None and time_s <= end_s + _SEAM_S:
                return time_s
        return None

    def _segment_at(self, time_s: float) -> Segment:
        number = bisect_right([s.start_s for s in self._segments], time_s) - 1
        return self._segments[max(number, 0)]

    def _replan(
        self, at_s: float, plan: list[tuple[float, float]], target: float | None
    ) -> float:
        x, v = self.position_at(at_s), self.velocity_at(at_s)
        kept = [s for s in self._segments if s.start_s < at_s]
        # The oldest is kept whole: it is what the stage did before it is remembered.
        while len(kept) > 1 and kept[1].start_s < at_s - _MEMORY_S:
            kept.pop(0)
        time_s = at_s
        for duration_s, acceleration in plan:
            if duration_s <= 0:
                continue
            kept.append(Segment(time_s, x, v, acceleration))
            x += duration_s * (v + 0.5 * acceleration * duration_s)
            v += acceleration * duration_s
            time_s += duration_s
        kept.append(Segment(time_s, x if target is None else target, 0.0, 0.0))
        self._segments = kept
        return time_s


def _crossing(
    segment: Segment, position: float, direction: int, after_s: float
) -> float | None:
    """Return when one segment first passes a position in a direction."""
    ahead = position - segment.position
    if segment.acceleration == 0:
        roots = [ahead / segment.velocity] if segment.velocity else []
    else:
        root = segment.velocity**2 + 2 * segment.acceleration * ahead
        if root < 0:
            return None
        # Stable form: the two roots by their product, not by a difference.
        q = -(segment.velocity + math.copysign(math.sqrt(root), segment.velocity))
        roots = [q / segment.acceleration]
        if q:
            roots.append(-2 * ahead / q)
    for t in sorted(roots):
        time_s = segment.start_s + t
        if t < -_SEAM_S or time_s < after_s - _SEAM_S:
            continue
        v = (segment.velocity + segment.acceleration * t) * direction
        if v > 0 or (v == 0 and segment.acceleration * direction > 0):
            return max(time_s, after_s)
    return None
