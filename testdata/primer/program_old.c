/* The made-up program that the model of payloads is primed with. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Order { struct Order *next; int64_t price; uint32_t count; char name[20]; } Order;
typedef struct Book { Order *first; size_t orders; int64_t sum; unsigned char *cells; size_t width, height, refused; } Book;

__attribute__((noinline)) static int check(const Book *book, size_t x, size_t y) {
    return x < book->width && y <= book->height;
}

__attribute__((noinline)) int book_cell(Book *book, size_t x, size_t y) {
    if (!check(book, x, y))
        return -1;
    return book->cells[y * book->width + x];
}

__attribute__((noinline)) Order *book_add(Book *book, const char *name, int64_t price, uint32_t count) {
    Order *order = malloc(sizeof *order);
    if (!order)
        return NULL;
    memset(order, 0, sizeof *order);
    strcpy(order->name, name);
    order->price = price;
    order->count = count;
    order->next = book->first;
    book->first = order;
    book->orders++;
    book->sum += price * count;
    return order;
}

__attribute__((noinline)) int book_print(const Book *book) {
    for (const Order *order = book->first; order; order = order->next)
        if (printf("%s: %u\n", order->name, order->count) < 0)
            return -1;
    return 0;
}

__attribute__((noinline)) void book_clear(Book *book) {
    while (book->first) {
        Order *order = book->first;
        free(order);
        book->first = order->next;
    }
}

int main(int argc, char **argv) {
    Book book = { .width = (size_t)argc, .height = 4 };
    book.cells = calloc(book.width, book.height);
    for (int i = 1; i < argc; i++)
        if (!book_add(&book, argv[i], i, (uint32_t)atoi(argv[i])))
            return 1;
    printf("%d\n", book_cell(&book, (size_t)argc / 2, 1));
    int result = book_print(&book);
    book_clear(&book);
    return result;
}
