"""Draws a seller's day: the seats, sold and unsold, the days to go and the revenue."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from persim_gym.envs.revenue.market import PERIODS, SEATS

WIDTH, HEIGHT = 600, 380  # pixels
COLUMNS = 20  # seats in a row
PITCH, SIDE, MARGIN = 22, 18, 80  # pixels
PAPER, INK, FREE, SOLD = (255, 255, 255), (40, 40, 40), (222, 226, 230), (25, 113, 194)


class SeatsRenderer:
    """A plan of the seats, those sold in blue; a bar of the days gone; seats, days and revenue in words."""

    def __init__(self, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens nothing until the first `render`.

        Args:
            render_mode: "human" or "rgb_array".
            covariates: Of the seller; named beneath the seats.
        """
        self._render_mode = render_mode
        self._caption = "   ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in covariates.items())
        self._window: pygame.Surface | None = None

    def render(self, state: NDArray[np.float64]) -> Any:
        """Draws (seats left, periods to go, revenue, scenario), [4]: [380, 600, 3], or a window and None."""
        seats, periods, revenue = (float(x) for x in state[:3])
        picture = pygame.Surface((WIDTH, HEIGHT))
        picture.fill(PAPER)
        for seat in range(SEATS):
            left, top = MARGIN + PITCH * (seat % COLUMNS), 70 + PITCH * (seat // COLUMNS)
            sold = min(max(SEATS - seats - seat, 0.0), 1.0)
            pygame.draw.rect(picture, FREE, (left, top, SIDE, SIDE), border_radius=4)
            pygame.draw.rect(picture, SOLD, (left, top, round(SIDE * sold), SIDE), border_radius=4)
        gone = (PERIODS - periods) / PERIODS
        length = PITCH * COLUMNS
        pygame.draw.rect(picture, FREE, (MARGIN, 308, length, 14), border_radius=4)
        pygame.draw.rect(picture, INK, (MARGIN, 308, round(length * gone), 14), border_radius=4)
        _write(picture, f"{seats:.3g} of {SEATS} seats left     revenue {revenue:.2f} full fares", 30, 24)
        _write(picture, f"{periods:.3g} of {PERIODS} days to go", 284, 20)
        _write(picture, self._caption, 340, 20)
        if self._render_mode == "human":
            self._show(picture)
            return None
        return pygame.surfarray.array3d(picture).transpose(1, 0, 2)

    def _show(self, picture: pygame.Surface) -> None:
        if self._window is None:
            pygame.init()
            pygame.display.init()
            self._window = pygame.display.set_mode((WIDTH, HEIGHT))
        self._window.blit(picture, (0, 0))
        pygame.event.pump()
        pygame.display.flip()

    def close(self) -> None:
        """Closes the window."""
        if self._window is not None:
            pygame.display.quit()
            self._window = None


def _write(picture: pygame.Surface, text: str, top: int, size: int) -> None:
    pygame.font.init()
    picture.blit(pygame.font.Font(None, size).render(text, True, INK), (MARGIN, top))
