// Containers and algorithms as templates: every use makes functions of its own.
#pragma once

#include "host.h"

// What a container throws.
struct OutOfRange {
    size_t index, size;
};

// A growing array.
template <typename T> class Vector {
  public:
    Vector() = default;
    Vector(const Vector &) = delete;
    Vector &operator=(const Vector &) = delete;
    ~Vector() {
        clear();
        free(items_);
    }

    void push(T item) {
        if (size_ == capacity_) {
            grow();
        }
        new (items_ + size_) T(move(item));
        size_++;
    }

    void clear() {
        while (size_ != 0) {
            items_[--size_].~T();
        }
    }

    T &at(size_t index) {
        if (index >= size_) {
            throw OutOfRange{index, size_};
        }
        return items_[index];
    }

    size_t size() const { return size_; }
    T *begin() { return items_; }
    T *end() { return items_ + size_; }

  private:
    NOINLINE void grow() {
        const size_t capacity = capacity_ == 0 ? 4 : capacity_ * 2;
        T *items = static_cast<T *>(malloc(capacity * sizeof(T)));
        for (size_t i = 0; i < size_; i++) {
            new (items + i) T(move(items_[i]));
            items_[i].~T();
        }
        free(items_);
        items_ = items;
        capacity_ = capacity;
    }

    T *items_ = nullptr;
    size_t size_ = 0, capacity_ = 0;
};

// Owns an object.
template <typename T> class Owned {
  public:
    explicit Owned(T *object = nullptr) : object_(object) {}
    Owned(Owned &&other) : object_(other.object_) { other.object_ = nullptr; }
    Owned &operator=(Owned &&other) {
        swap(object_, other.object_);
        return *this;
    }
    ~Owned() { delete object_; }
    T *operator->() const { return object_; }
    T *get() const { return object_; }

  private:
    T *object_;
};

// Sorts by insertion: slow, short and stable.
template <typename T, typename Before> NOINLINE void sort(T *first, T *last, Before before) {
    for (T *next = first; next < last; next++) {
        for (T *place = next; place > first && before(*place, place[-1]); place--) {
            swap(*place, place[-1]);
        }
    }
}

template <typename T, typename Fold> uint32 fold(T *first, T *last, uint32 sum, Fold with) {
    for (; first != last; first++) {
        sum = with(sum, *first);
    }
    return sum;
}

// Counts how often each key was seen, in a table of a fixed number of buckets.
template <typename Key, size_t Buckets> class Counter {
  public:
    uint32 count(const Key &key) {
        const uint32 bucket = hash(key) % Buckets;
        for (Entry &entry : buckets_[bucket]) {
            if (entry.key == key) {
                return ++entry.count;
            }
        }
        buckets_[bucket].push(Entry{key, 1});
        return 1;
    }

    uint32 sum() {
        uint32 sum = Buckets;
        for (auto &bucket : buckets_) {
            sum = fold(bucket.begin(), bucket.end(), sum, [](uint32 so_far, Entry &entry) {
                return mix(so_far, hash(entry.key) + entry.count);
            });
        }
        return sum;
    }

  private:
    struct Entry {
        Key key;
        uint32 count;
    };
    static uint32 hash(const Key &key) { return mix(17, static_cast<uint32>(key)); }
    Vector<Entry> buckets_[Buckets];
};
