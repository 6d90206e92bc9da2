"""A strip of glucose over the day, drawn with pygame as Gymnasium draws its classic environments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.patients.chance import STEPS_PER_DAY
from persim_gym.envs.patients.physics import AT, announced, cgm, glucose

WIDTH, HEIGHT, MARGIN = 640, 360, 44  # pixels
LOW, HIGH, SHOWN = 70.0, 180.0, 400.0  # mg/dL
WHITE, GREEN, GREY, BLUE, BLACK, ORANGE = (
    (255, 255, 255), (222, 242, 222), (140, 140, 140), (30, 90, 170), (20, 20, 20), (225, 130, 20),
)  # fmt: skip


class StripRenderer:
    """Sensor readings of the day so far, the glucose behind them, meals, and the range of 70 to 180 mg/dL."""

    def __init__(self, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens nothing until the first `render`; covariates do not show."""
        self._mode = render_mode
        self._seen: list[tuple[int, float, float, float]] = []
        self._window: Any = None

    def render(self, state: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        """Draws the state, [S], behind those of the same day that were drawn before it."""
        import pygame

        pygame.font.init()
        step = int(state[AT.clock])
        if self._seen and not self._seen[-1][0] <= step <= self._seen[-1][0] + 1:
            self._seen = []
        self._seen = [
            seen for seen in self._seen if seen[0] != step and seen[0] // STEPS_PER_DAY == step // STEPS_PER_DAY
        ]
        self._seen.append((step, float(cgm(state)), float(glucose(state)), float(announced(state))))
        surface = pygame.Surface((WIDTH, HEIGHT))
        self._draw(pygame, surface)
        if self._mode == "human":
            if self._window is None:
                pygame.display.init()
                self._window = pygame.display.set_mode((WIDTH, HEIGHT))
            pygame.event.pump()
            self._window.blit(surface, (0, 0))
            pygame.display.flip()
            return None
        image: NDArray[np.uint8] = np.transpose(pygame.surfarray.array3d(surface), (1, 0, 2))
        return image

    def _draw(self, pygame: Any, surface: Any) -> None:
        small, large = pygame.font.Font(None, 18), pygame.font.Font(None, 30)
        surface.fill(WHITE)
        top, bottom = _height(HIGH), _height(LOW)
        pygame.draw.rect(surface, GREEN, (MARGIN, top, WIDTH - 2 * MARGIN, bottom - top))
        for level in (LOW, HIGH, 300):
            surface.blit(small.render(f"{level:.0f}", True, GREY), (8, _height(level) - 6))
        for hour in range(0, 25, 6):
            left = _left(hour * STEPS_PER_DAY // 24)
            pygame.draw.line(surface, GREY, (left, MARGIN), (left, HEIGHT - MARGIN))
            surface.blit(small.render(f"{hour:02d}:00", True, GREY), (left - 16, HEIGHT - MARGIN + 8))
        for step, _, _, grams in self._seen:
            if grams > 0:
                left = _left(step % STEPS_PER_DAY)
                pygame.draw.line(surface, ORANGE, (left, HEIGHT - MARGIN), (left, HEIGHT - MARGIN - grams), 5)
                surface.blit(small.render(f"{grams:.0f} g", True, ORANGE), (left + 5, HEIGHT - MARGIN - 14))
        points = [(_left(step % STEPS_PER_DAY), _height(value)) for step, _, value, _ in self._seen]
        if len(points) > 1:
            pygame.draw.lines(surface, BLACK, False, points, 2)
        for step, reading, _, _ in self._seen:
            pygame.draw.circle(surface, BLUE, (_left(step % STEPS_PER_DAY), _height(reading)), 3)
        step, reading, _, _ = self._seen[-1]
        day, minutes = step // STEPS_PER_DAY + 1, step % STEPS_PER_DAY * 24 * 60 // STEPS_PER_DAY
        title = f"day {day}, {minutes // 60:02d}:{minutes % 60:02d}   sensor glucose {reading:.0f} mg/dL"
        surface.blit(large.render(title, True, BLUE), (MARGIN, 12))

    def close(self) -> None:
        """Closes the window."""
        if self._window is not None:
            import pygame

            pygame.display.quit()
            self._window = None


def _left(step: int) -> int:
    return MARGIN + round((WIDTH - 2 * MARGIN) * step / STEPS_PER_DAY)


def _height(level: float) -> int:
    return HEIGHT - MARGIN - round((HEIGHT - 2 * MARGIN) * min(level, SHOWN) / SHOWN)
