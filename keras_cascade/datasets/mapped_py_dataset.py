"""A PyDataset whose batches pass through a function."""

import keras


class MappedPyDataset(keras.utils.PyDataset):
    """Another PyDataset's batches, each given to a function.

    Size, hooks and queue are those of the other.

    Args:
        dataset: `keras.utils.PyDataset`.
        function: function from a batch to a batch.
        use_multiprocessing: bool. Whether the batches may be drawn in other
            processes, where what the function does stays.
    """

    def __init__(self, dataset, function, use_multiprocessing):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self._dataset = dataset
        self._function = function

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._function(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
